"""Contract tests of the dialects run against a daemon as the acceptance tests have it."""

from tests.acceptance.conftest import shared_world, tenant, world

__all__ = ["shared_world", "tenant", "world"]
