"""Tests of the targeting index."""
