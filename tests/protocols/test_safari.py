"""Links as arguments of a site's urlFormatString, and formats that are none."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols import safari

texts = st.text(alphabet="ab/%@", max_size=8)


@pytest.mark.parametrize(
    ("link", "form", "arguments"),
    [
        ("https://example.com/pears?x=1", "https://example.com/%@", ["pears?x=1"]),
        ("https://example.com/", "https://example.com/%@", [""]),
        ("https://example.com/a/b?n=7", "https://example.com/%@?n=%@", ["a/b", "7"]),
        ("https://example.com/a?n=7&n=8", "https://example.com/%@&n=%@", ["a?n=7", "8"]),
        ("https://example.com/x.x", "https://example.com/%@.%@", ["x", "x"]),
        ("https://example.com/ab", "https://example.com/%@%@", ["", "ab"]),
        ("https://example.com/offers", "https://example.com/offers", []),
        ("https://example.com/offer", "https://example.com/offers", None),
        ("https://example.org/pears", "https://example.com/%@", None),
        ("https://example.com/a", "https://example.com/%@/b", None),
        ("https://example.com/b", "https://example.com/%@/b", None),
        ("app:open", "https://example.com/%@", None),
    ],
)
def test_s03_a_link_is_taken_apart_by_the_format(link, form, arguments):
    assert safari.url_args(link, form) == arguments


@given(st.lists(texts, min_size=1, max_size=5), st.lists(texts, min_size=4, max_size=4))
@example(["a"] * 5, ["a", "", "aa", "a"])
def test_s03_what_was_made_by_a_format_is_found_again(pieces, arguments):
    form = safari.PLACEHOLDER.join(pieces)
    parts = form.split(safari.PLACEHOLDER)
    arguments = (arguments * 9)[: len(parts) - 1]
    link = parts[0] + "".join(argument + part for argument, part in zip(arguments, parts[1:], strict=True))
    found = safari.url_args(link, form)
    assert found is not None
    assert safari.fit(found, form)
    assert parts[0] + "".join(each + part for each, part in zip(found, parts[1:], strict=True)) == link


def test_s03_a_hostile_link_costs_no_more_than_its_length():
    form = "https://e.org/" + "%@a" * safari.PLACEHOLDERS_MAX
    assert safari.url_args("https://e.org/" + "a" * 100_000 + "b", form) is None


def test_s03_arguments_are_texts_and_as_many_as_placeholders():
    form = "https://example.com/%@/%@"
    assert safari.fit(["a", ""], form)
    for wrong in (["a"], ["a", "b", "c"], ["a", 1], "ab", None, {"a": "b"}):
        assert not safari.fit(wrong, form)
    assert safari.open_nothing(form) == ["", ""]


@pytest.mark.parametrize(
    "wrong",
    [
        "example.com/%@",
        "ftp://example.com/",
        "https:///%@",
        "https://%@.example.com/",
        "https://user@example.com/",
        "https://example.com/ %@",
        "https://exämple.com/%@",
        "https://example.com/" + "%@" * 17,
        "https://example.com/" + "x" * 2048,
        "",
    ],
)
def test_a_format_that_safari_could_not_use_says_so(wrong):
    with pytest.raises(ValueError, match="must"):
        safari.check_format(wrong)


def test_the_host_of_a_format():
    assert safari.host_of("https://Shop.Example.com:8443/%@") == "shop.example.com"
    assert safari.check_format("http://example.com/%@?x=%@") == "http://example.com/%@?x=%@"
