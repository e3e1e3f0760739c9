"""Liquid under limits: what comes out, what is read from outside, and what hostile templates come to."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.content import liquid
from pushd.content.liquid import Lookup, TemplateError, parse, shown
from tests.hostile_templates import HOSTILE, VALUES

NOW = 1_800_000_000.0
MEMORY_MAX = 8_000_000


def tried(source: str, values: dict) -> tuple[str, str]:
    """What comes out, or why nothing does."""
    try:
        return parse(source).render(values, NOW), ""
    except TemplateError as error:
        return "", str(error)


def render(source: str, **values) -> str:
    return parse(source).render(values, NOW)


@pytest.mark.parametrize(
    ("source", "values", "result"),
    [
        ("Hello {{ name }}", {"name": "Ada"}, "Hello Ada"),
        ("{{ missing }}|{{ user.missing }}", {"user": {}}, "|"),
        ('{{ name | default: "you" }}', {"name": ""}, "you"),
        ("{{ message-title }}", {"message-title": "Push yourself"}, "Push yourself"),
        ("{{ n }} {{ f }} {{ t }} {{ list }}", {"n": 5, "f": 1.5, "t": True, "list": ["a", "b"]}, "5 1.5 true ab"),
        ("{% if n > 2 %}many{% else %}few{% endif %}", {"n": 3}, "many"),
        ("{% for each in list %}{{ forloop.index }}{{ each }},{% endfor %}", {"list": ["a", "b"]}, "1a,2b,"),
        ("{% case plan %}{% when 'pro' %}P{% else %}F{% endcase %}", {"plan": "pro"}, "P"),
        ("{% assign x = 'a' | append: 'b' %}{{ x | upcase }}", {}, "AB"),
        ("{% capture x %}{{ n }}!{% endcapture %}{{ x }}{{ x }}", {"n": 1}, "1!1!"),
        ("{% raw %}{{ n }}{% endraw %}{% comment %}no{% endcomment %}", {}, "{{ n }}"),
        ("{{ 7 | divided_by: 2 }} {{ 1.5 | times: 2 }} {{ 3 | minus: 5 | abs }}", {}, "3 3.0 2"),
        ("{{ list | join: ', ' }} {{ list | size }} {{ list | last }}", {"list": ["b", "a"]}, "b, a 2 a"),
        ("{{ '<b>x</b>' | strip_html }}{{ '<' | escape }}", {}, "x&lt;"),
        ("{{ 'now' | date: '%Y-%m-%d %H:%M' }}", {}, "2027-01-15 08:00"),
        ("{{ at | date: '%-d.%-m.%Y, %e %P %%' }}", {"at": "2026-03-07T09:05:00+02:00"}, "7.3.2026,  7 am %"),
        ("{{ at | date: '%s' }}", {"at": 1_700_000_000}, "1700000000"),
        ("{{ 'no date' | date: '%Y' }}{{ nothing | date: '%Y' }}", {}, "no date"),
    ],
)
def test_what_comes_out(source, values, result):
    assert render(source, **values) == result


def test_what_is_read_from_outside():
    source = "{{ user.first_name }}{% for x in items %}{{ x.a }}{{ user[key] }}{% endfor %}{% assign n = 1 %}{{ n }}"
    assert parse(source).paths == {("user", "first_name"), ("items",), ("user", "*"), ("key",)}


@pytest.mark.parametrize(
    ("source", "optional"),
    [
        ("{{ a }}", False),
        ("{{ a | default: 'b' }}", True),
        ("{{ a | default: 'b' }} {{ a }}", False),
        ("{{ a | upcase | default: 'b' }}", False),
        ("{% if a %}{{ a }}{% endif %}", True),
        ("{% unless a %}x{% endunless %}", True),
        ("{% if a == 'x' %}y{% endif %}", False),
    ],
)
def test_a_name_may_be_missing_where_the_template_says_what_then(source, optional):
    assert ("a" in parse(source).optional) is optional


def test_look_ups_one_after_another_are_known_as_such():
    assert parse('Hi {{ user.a | default: "you" }}, {{ b }}!').parts == (
        "Hi ",
        Lookup(("user", "a"), "you"),
        ", ",
        Lookup(("b",)),
        "!",
    )
    for general in ("{{ a | upcase }}", "{% if a %}b{% endif %}", "{{ a[0] }}", "{{ a | default: b }}", "{{ 'a' }}"):
        assert parse(general).parts is None, general
    for of_lists in ("{{ a.size }}", "{{ a.b.first }}"):
        assert parse(of_lists).parts is None, of_lists


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from("ab"), VALUE))
def test_look_ups_write_what_the_library_writes(values):
    for source in ("{{ a }}", "{{ a.b }}{{ b.a.b }}", '{{ a | default: "d" }}', '{{ now }}{{ a.b | default: "d" }}'):
        assert render(source, **values) == render(source + "{% if false %}{% endif %}", **values)


@given(st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text()))
def test_values_are_written_as_liquid_writes_them(value):
    assert shown(value) == render("{{ value }}", value=value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_within_their_limits(name):
    liquid.forget()
    tracemalloc.start()
    try:
        out, refused = tried(HOSTILE[name], VALUES)
        assert len(out.encode()) <= liquid.OUTPUT_MAX
        assert len(refused) <= 200
        assert "\n" not in refused
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["loop", "doubling", "replace", "numbers", "join_range", "output", "include", "blocks"]
)
def test_what_goes_past_a_limit_is_refused(name):
    with pytest.raises(TemplateError):
        parse(HOSTILE[name]).render(VALUES, NOW)


def test_steps_are_counted_over_all_texts_of_a_message():
    text = parse("{% for i in (1..500) %}{{ i }}{% endfor %}")
    budget = liquid.Budget()
    text.render({}, NOW, budget)
    with pytest.raises(TemplateError, match="steps"):
        [text.render({}, NOW, budget) for _ in range(10)]


@given(st.text(alphabet="{}%|.:'\" ab[]1-\n", max_size=60))
def test_any_text_is_parsed_or_refused(source):
    out, refused = tried(source, {"a": "b"})
    assert not (out and refused)
