"""The page of each dialect has every call that is routed, and no other."""

import pytest

from pushd.dialects.mount import DIALECTS
from tests.dialect_pages import DOCS, written


@pytest.mark.parametrize("name", list(DIALECTS))
def test_the_table_is_that_of_the_routes(name):
    assert (DOCS / f"{name}.md").read_text() == written(name), "run `python -m tests.dialect_pages`"
