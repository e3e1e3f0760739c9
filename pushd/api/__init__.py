"""The native REST API under /pushd/v1: one twin per aggregate, and the OpenAPI document of the same types."""
