"""Versions in their order."""

from itertools import combinations

import pytest

from pushd.model.versions import version_key

# Ascending; the middle is the example of Semantic Versioning 2.0.0, section 11.
ASCENDING = [
    *("0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"),
    *("1.0.0-rc.1", "1.0.0", "1.0.0 (7)", "1.9", "1.10b3", "1.10", "1.10.0.1", "2-1", "2", "17.4", "17.4.1", "2026.11"),
]


@pytest.mark.parametrize(("lower", "higher"), list(combinations(ASCENDING, 2)))
def test_versions_compare_part_by_part(lower, higher):
    assert version_key(lower) < version_key(higher)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0.0"), ("v1.2", "1.2"), ("1.2+build.7", "1.2"), ("01.2", "1.2"), ("1.0-RC", "1-rc")]
)
def test_some_are_spelt_in_two_ways(one, other):
    assert version_key(one) == version_key(other)


@pytest.mark.parametrize("text", ["", "next", "-", "v"])
def test_what_does_not_begin_with_a_number_is_no_version(text):
    assert version_key(text) is None
