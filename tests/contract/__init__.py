"""The contract suite: one set of tests over every gateway."""
