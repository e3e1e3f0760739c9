import contextlib
import json
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from pushd.errors import InvalidRequestError, NotFoundError, PushdError
from pushd.model.notification import Send
from pushd.web import decode
from pushd.web.decode import DEPTH_MAX, JsonBody, Parameters, is_deep, json_fields, no_parameters

BODY = JsonBody(Send)


def send(audience='{"type": "broadcast"}', message="{}", more=""):
    return f'{{"audience": {audience}, "message": {message}{more}}}'.encode()


@pytest.mark.parametrize(
    ("raw", "pointer", "detail"),
    [
        (send(more=', "colour": 1'), "/colour", "not a field"),
        (send('{"type": "broadcast", "x": 1}'), "/audience/x", "not a field"),
        (send(message='{"a/b~c": 1}'), "/message/a~1b~0c", "not a field"),
        (b'{"message": {}}', "/audience", "required"),
        (send("{}"), "/audience/type", "required"),
        (send('{"type": "nope"}'), "/audience/type", "nope"),
        (send('{"type": "devices", "ids": [1, 2, "a"]}'), "/audience/ids/2", "Expected `int`"),
        (send('{"type": "devices", "ids": []}'), "/audience/ids", "length"),
        (send('{"type": "devices", "ids": [2147483648]}'), "/audience/ids/0", "<="),
        (
            send('{"type": "and", "of": [{"type": "broadcast"}, {"type": "not", "of": {"type": "tags", "any": [1]}}]}'),
            "/audience/of/1/of/any/0",
            "Expected `str`",
        ),
        (send(message='{"sound": {"volume": 2}}'), "/message/sound/volume", "<= 1.0"),
        (send(message='{"buttons": [{"id": "1", "text": "ok"}, {"id": "2"}]}'), "/message/buttons/1/text", "required"),
        (send(message='{"overrides": {"apns": 3}}'), "/message/overrides", "Expected `object`"),
        (send(message='{"overrides": {"pager": {}}}'), "/message/overrides", "wrong key"),
        (send(more=', "ttl_s": -1'), "/ttl_s", ">= 0"),
        (send(more=', "ttl_s": true'), "/ttl_s", "Expected"),
        (send(message='{"title": "a", "title": "b"}'), "/message/title", "twice"),
        (send(message='{"data": {"list": [1, {"k": 1, "k": 2}]}}'), "/message/data/list/1/k", "twice"),
        (send(message='{"data": {"\\u0061": 1, "a": 2}}'), "/message/data/a", "twice"),
        (send(message='{"data": {"a": [1, 18446744073709551616]}}'), "/message/data/a/1", "64 bits"),
        (send(message='{"data": {"a": -9223372036854775809}}'), "/message/data/a", "64 bits"),
        (send(message='{"data": {"a": 1e999}}'), "/message/data", "out of range"),
        (send(message='{"title": "\\ud800"}'), "", "truncated"),
        (b"[]", "", "Expected `object`"),
        (b"", "", "truncated"),
        (b"{", "", "truncated"),
        (send() + b"x", "", "malformed"),
        (send(message='{"data": {"a": NaN}}'), "", "malformed"),
        (b'{"audience": "\xff"}', None, ""),
        (b"\xef\xbb\xbf" + send(), "", "malformed"),
        (send().decode().encode("utf-16"), None, ""),
    ],
)
def test_each_fault_points_at_its_field(raw, pointer, detail):
    with pytest.raises(InvalidRequestError) as caught:
        BODY.decode(raw)
    (fault,) = caught.value.faults
    if pointer is not None:
        assert fault.pointer == pointer
    assert detail in fault.detail


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        send(message='{"data": {"a": ' + "[" * 70 + "]" * 70 + "}}"),
        send(message='{"data": {"a": "]]]]]]' + "]" * 200 + '", "b": ' + "[" * 70 + "]" * 70 + "}}"),
        send('{"type": "not", "of": ' * 70 + '{"type": "broadcast"}' + "}" * 70),
    ],
    ids=["arrays", "objects", "data", "hidden by a string", "audience"],
)
def test_depth_is_bounded(raw):
    for decoding in (BODY.decode, BODY.decode_line):
        with pytest.raises(InvalidRequestError) as caught:
            decoding(raw)
        assert "deeper" in caught.value.faults[0].detail


def test_brackets_in_strings_and_many_flat_ones_are_no_depth():
    data = json.dumps({"text": "[" * 500 + '\\"{', "flat": [[]] * 500})
    assert BODY.decode(send(message=f'{{"data": {data}}}')).message.data["text"] == "[" * 500 + '\\"{'


def test_long_digits_that_are_no_long_integer_stay():
    data = '{"text": "99999999999999999999999", "most": 18446744073709551615, "real": 0.12345678901234567890123}'
    assert BODY.decode(send(message=f'{{"data": {data}}}')).message.data["most"] == 2**64 - 1


def test_repeats_are_not_looked_for_in_what_machines_write(monkeypatch):
    raw = send(message='{"title": "a", "title": "b"}')
    assert BODY.decode_line(raw).message.title == "b"
    monkeypatch.setattr(decode, "DUPLICATES_BYTES_MAX", 10)
    assert BODY.decode(raw).message.title == "b"


PLAIN = st.none() | st.booleans() | st.text(max_size=5) | st.integers()
ANY_JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(ANY_JSON)
def test_any_json_is_a_value_or_a_fault_that_names_an_existing_place(value):
    raw = json.dumps({"audience": value, "message": {"data": {"x": value}}}).encode()
    try:
        BODY.decode(raw)
    except InvalidRequestError as error:
        (fault,) = error.faults
        assert fault.pointer.startswith("/audience")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error_of_ours(raw):
    with contextlib.suppress(InvalidRequestError):
        JsonBody(Any).decode(raw)


class Filter(Struct, frozen=True):
    device_id: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    name: str | None = None
    outcome: list[str] = []
    kind: Annotated[list[str], Meta(description="Whatever.")] | None = None
    live: bool = False


PARAMETERS = Parameters(Filter, ["device_id"])


def test_parameters_come_from_path_and_query():
    assert PARAMETERS.decode(["7"], "") == Filter(device_id=7)
    query = "limit=5&name=a%26b+c&outcome=x&outcome=y&live=true"
    assert PARAMETERS.decode(["7"], query) == Filter(device_id=7, limit=5, name="a&b c", outcome=["x", "y"], live=True)
    assert PARAMETERS.decode(["7"], "kind=a").kind == ["a"]
    assert PARAMETERS.decode(["7"], "name=null").name in {"null", None}


@pytest.mark.parametrize("value", ["0", "-1", "2147483648", "abc", "1.5", "%00", "%FF", "7%2F8", ""])
def test_a_path_that_cannot_be_names_nothing(value):
    with pytest.raises(NotFoundError):
        PARAMETERS.decode([value], "")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("lmit=1", "lmit"),
        ("device_id=9", "device_id"),
        ("name=%00", "name"),
        ("live=perhaps", "live"),
    ],
)
def test_a_wrong_query_names_the_parameter(query, name):
    with pytest.raises(InvalidRequestError) as caught:
        PARAMETERS.decode(["7"], query)
    assert caught.value.faults[0].pointer == name


@pytest.mark.parametrize("query", ["&".join(f"name{i}=1" for i in range(101)), "name=%ff"])
def test_a_query_is_bounded_and_text(query):
    with pytest.raises(InvalidRequestError):
        PARAMETERS.decode(["7"], query)


def test_no_parameters_are_none():
    no_parameters("")
    with pytest.raises(PushdError) as caught:
        no_parameters("verbose=1")
    assert caught.value.faults[0].pointer == "verbose"


def test_messages_of_msgspec_are_understood_whatever_the_field():
    class Odd(Struct, forbid_unknown_fields=True):
        inner: dict[str, dict[str, int]]

    for raw, pointer in ((b'{"inner": {"a": {"b": "c"}}}', "/inner"), (b'{"in`ner": 1, "inner": {}}', "/in`ner")):
        with pytest.raises(InvalidRequestError) as caught:
            JsonBody(Odd).decode(raw)
        assert caught.value.faults[0].pointer == pointer


class Pairs(list):
    """Members of an object, repeats and all."""


OBJECTS = "ab:"
MEMBERS = st.recursive(
    st.integers(0, 9) | st.text(':\\"ab', max_size=4) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(st.sampled_from(OBJECTS), inner), max_size=3).map(Pairs)
    ),
    max_leaves=8,
)


def written(value, rng) -> str:
    if isinstance(value, Pairs):
        gap = rng.choice(["", " "])
        return "{" + ",".join(f"{json.dumps(key)}{gap}:{written(inner, rng)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(inner, rng) for inner in value) + "]"
    return json.dumps(value) if not isinstance(value, str) else rng.choice([json.dumps(value), spelt(value)])


def spelt(text: str) -> str:
    return '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"'


def repeats(value) -> bool:
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        return len({*keys}) < len(keys) or any(repeats(inner) for _, inner in value)
    return isinstance(value, list) and any(repeats(inner) for inner in value)


@given(st.lists(st.tuples(st.sampled_from("ab:"), MEMBERS), max_size=4).map(Pairs), st.randoms(use_true_random=False))
def test_a_repeat_is_found_however_it_is_written(data, rng):
    raw = send(message=f'{{"title": "t", "data": {written(data, rng)}}}')
    if repeats(data):
        with pytest.raises(InvalidRequestError) as error:
            BODY.decode(raw)
        assert error.value.faults[0].detail == "is there twice"
    else:
        assert BODY.decode(raw).message.title == "t"


def test_repeats_are_looked_for_by_a_second_parse_only_where_they_can_be(monkeypatch):
    searched = []
    monkeypatch.setattr(decode, "_check_repeats", searched.append)
    BODY.decode(send(message='{"title": "12:30", "data": {"a": [{"b": ":"}]}}'))
    assert searched == []
    for message in ('{"title": "a", "title": "b"}', '{"title": "\\u0061"}'):
        BODY.decode(send(message=message))
    assert len(searched) == 2


class Inner(Struct, forbid_unknown_fields=True):
    size: Annotated[int, Meta(ge=0, le=9)] = 0


class Outer(Struct, forbid_unknown_fields=True):
    names: list[str] = []
    inner: list[Inner] | None = None
    share: float = 0


class Unbounded(Struct, forbid_unknown_fields=True):
    number: int = 0


class Open(Struct):
    name: str = ""


class Loose(Struct, forbid_unknown_fields=True):
    anything: Any = None


class Endless(Struct, forbid_unknown_fields=True):
    more: list["Endless"] = []


@pytest.mark.parametrize(
    ("type_", "looked"), [(Outer, False), (Unbounded, True), (Open, True), (Loose, True), (Endless, True)]
)
def test_depth_is_looked_for_where_the_type_does_not_bound_it(monkeypatch, type_, looked):
    seen = []
    monkeypatch.setattr(decode, "_check_depth", seen.append)
    JsonBody(type_).decode(b"{}")
    assert bool(seen) is looked


@pytest.mark.parametrize(
    "raw",
    [
        b'{"names": %s}' % (b"[" * 10_000 + b"]" * 10_000),
        b'{"inner": [{"size": 18446744073709551616}]}',
        b'{"share": "1"}',
        b'{"names": [], "names": []}',
        b'{"nowhere": [[[]]]}',
        b"[" * 100_000,
    ],
)
def test_a_bounded_type_refuses_all_the_same(raw):
    with pytest.raises(InvalidRequestError):
        JsonBody(Outer).decode(raw)


@pytest.mark.parametrize("text", ["[" * 100, "}" * 100, '\\"' + "{" * 100, "\\\\", '[\\"]}'])
def test_brackets_in_strings_do_not_count_as_depth(text):
    body = JsonBody[Any](dict[str, Any])
    flat = b'{"a":[' + b",".join([b'{"t":"' + text.encode() + b'"}'] * 80) + b"]}"
    assert len(body.decode(flat)["a"]) == 80
    deep = b'{"t":"' + text.encode() + b'","a":' + b"[" * 64 + b"]" * 64 + b"}"
    with pytest.raises(InvalidRequestError) as caught:
        body.decode(deep)
    assert "deeper" in caught.value.faults[0].detail


@pytest.mark.parametrize("quotes", [rb"\"", rb"\\", rb"\\\"", rb"\\\\", rb"\"\\\"", rb"\n\u005c\\", b"[{", b""])
def test_depth_is_that_of_brackets_outside_of_texts(quotes):
    text = b'"' + quotes + b"[" * 70 + quotes + b'"'
    for within in range(1, DEPTH_MAX + 3):
        raw = b"[" * within + b"%s,{},%s" % (text, text) + b"]" * within
        assert orjson.loads(raw)
        assert is_deep(raw) is (within + 1 > DEPTH_MAX)


def test_fields_of_a_body_are_found_behind_any_blanks():
    for blanks in (b"", b" ", b"\r\n" * 500):
        assert json_fields(blanks, InvalidRequestError) == {}
        assert json_fields(blanks + b'{"a": 1}', InvalidRequestError) == {"a": 1}
        for wrong in (b"[1]", b"x", b'{"a":' * 200 + b"1" + b"}" * 200):
            with pytest.raises(InvalidRequestError):
                json_fields(blanks + wrong, InvalidRequestError)
