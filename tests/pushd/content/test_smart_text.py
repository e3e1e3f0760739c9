"""Smart text means what its Liquid says, and whatever else is in it stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.content.liquid import parse
from pushd.content.smart_text import to_liquid

VALUES = {"user": {"name": "Ada", "e-mail": "a@b"}, "place": "Kyiv", "n": 1}


def rendered(text: str) -> str:
    return parse(to_liquid(text)).render(VALUES, 0.0)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Hello {Users.name}, {n} in {place}!", "Hello Ada, 1 in Kyiv!"),
        ("{Users.missing}{missing}", ""),
        ("{{ n }}", "{{ n }}"),
        ("{{n}}", "{1}"),
        ("{% if n %}{", "{% if n %}{"),
        ("{ n } {1} {}", "{ n } {1} {}"),
        ("{Users.name}{place}", "AdaKyiv"),
        ("a{{place}", "a{Kyiv"),
    ],
)
def test_gaps_are_filled_and_braces_stay(text, result):
    assert rendered(text) == result


@given(st.text(alphabet="{}% |.'ab\n", max_size=60).filter(lambda text: "{a" not in text and "{b" not in text))
def test_text_without_gaps_stays_as_it_is(text):
    assert rendered(text) == text
