"""JSON bodies and parameters into typed values; whatever is wrong becomes a fault that names its field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
import numpy as np
import orjson
from msgspec import Struct

from pushd.content.plain import has_long_number
from pushd.errors import Fault, InvalidRequestError, NotFoundError, PushdError

T = TypeVar("T")
P = TypeVar("P", bound=Struct)

DEPTH_MAX = 64
"""Levels of a body: what later walks an audience or a payload recurses that far and no further."""
DUPLICATES_BYTES_MAX = 256 * 1024
"""Up to this size a body is searched for repeated keys, which takes a second parse (RFC 8259 section 4 leaves their
meaning open, and people's typos are short); above, where machines write, the last one counts."""
QUERY_FIELDS_MAX = 100
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`(?P<path>\$.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_FIELD = re.compile(r"Object (?P<kind>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_SCALARS = (
    msgspec.inspect.StrType,
    msgspec.inspect.FloatType,
    msgspec.inspect.BoolType,
    msgspec.inspect.NoneType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
)
_UNMARKED = bytes(set(range(256)) - set(b'{}[]"'))


class JsonBody(Generic[T]):
    """Decodes bodies of one type, strictly: unknown and repeated fields are errors."""

    __slots__ = ("_decoder", "_free")

    def __init__(self, type_: Any) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
        self._free = not _is_closed(msgspec.inspect.type_info(type_), ())
        """Whether depth and numbers are not bounded by the type already."""

    def decode(self, raw: bytes) -> T:
        """The value; InvalidRequestError with a JSON pointer (RFC 6901) to what is wrong."""
        value = self.decode_line(raw)
        if len(raw) <= DUPLICATES_BYTES_MAX and not _is_whole(raw):
            _check_repeats(raw)
        return value

    def decode_line(self, raw: bytes) -> T:
        """As `decode`, for a line of a stream, where nobody types: repeated keys are not looked for."""
        if self._free:
            _check_depth(raw)
        try:
            value = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(faults=[fault(str(error))]) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"This is not JSON: {error}", faults=[Fault("", str(error))]) from None
        except RecursionError:
            raise _too_deep() from None
        if self._free and has_long_number(raw):
            _check_numbers(raw)
        return value


class Parameters(Generic[P]):
    """Decodes the parameters of one operation, from path and query."""

    __slots__ = ("_lists", "_path", "_query", "_type")

    def __init__(self, type_: type[P], path: Sequence[str]) -> None:
        self._type = type_
        self._path = tuple(path)
        fields = msgspec.structs.fields(type_)
        self._query = frozenset(one.encode_name for one in fields) - set(path)
        kinds = msgspec.inspect.type_info(type_)
        assert isinstance(kinds, msgspec.inspect.StructType)
        self._lists = {one.encode_name for one in kinds.fields if _is_list(one.type)}

    def decode(self, path_values: Sequence[str], query: str) -> P:
        """The parameters; NotFoundError where the path names what cannot be, InvalidRequestError for the query."""
        values = self._parse(query)
        for name, value in zip(self._path, path_values, strict=True):
            values[name] = _plain(value)
        try:
            return msgspec.convert(values, self._type, strict=False)
        except msgspec.ValidationError as error:
            found = fault(str(error))
            name = found.pointer.removeprefix("/").partition("/")[0]
            if name in self._path:
                raise NotFoundError from None
            raise InvalidRequestError(faults=[Fault(name, found.detail)]) from None

    def _parse(self, query: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in parse_query(query):
            if name not in self._query:
                raise InvalidRequestError(faults=[Fault(name, "is not a parameter of this operation")])
            if name in self._lists:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise InvalidRequestError(faults=[Fault(name, "is given more than once")])
            else:
                values[name] = value
        return values


def parse_query(query: str) -> list[tuple[str, str]]:
    """Names and values of a query string, in order; InvalidRequestError when it has too many or is not UTF-8."""
    if not query:
        return []
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise InvalidRequestError("The query is not valid") from None
    for name, value in fields:
        if "\0" in value:  # PostgreSQL has no such text
            raise InvalidRequestError(faults=[Fault(name, "holds the character U+0000")])
    return fields


def no_parameters(query: str) -> None:
    """Nothing; InvalidRequestError when an operation without parameters is given some."""
    for name, _ in parse_query(query):
        raise InvalidRequestError(faults=[Fault(name, "is not a parameter of this operation")])


def json_value(raw: bytes, wrong: Callable[[str], PushdError]) -> Any:
    """What a body of an API of others says in JSON, in which the last of repeated keys counts.

    Raises what `wrong` makes of "is not JSON" and "is too deep", for what walks it goes only so deep.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise wrong("is not JSON") from None
    if is_deep(raw):
        raise wrong("is too deep")
    return value


def json_fields(raw: bytes, wrong: Callable[[str], PushdError]) -> dict[str, Any]:
    """The fields of such a body that is an object, none of an empty one."""
    if not raw or raw.isspace():
        return {}
    value = json_value(raw, wrong)
    if not isinstance(value, dict):
        raise wrong("is not a JSON object")
    return value


def fault(message: str) -> Fault:
    """Msgspec's message as pointer and detail: "… - at `$.audience.ids[3]`" is /audience/ids/3.

    A step that msgspec does not know (`[...]`: some key of a map) ends the pointer at the map.
    """
    found = _MESSAGE.fullmatch(message)
    assert found is not None
    pointer = ""
    for step in _STEP.finditer(found["path"] or ""):
        if step["index"] == "...":
            break
        pointer += "/" + _escape(step["name"] or step["index"])
    what = found["what"]
    if field := _FIELD.fullmatch(what):
        pointer += "/" + _escape(field["name"])
        what = "is required" if field["kind"] == "missing required" else "is not a field that is known here"
    return Fault(pointer, ("has a wrong key: " if found["key"] else "") + what)


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _plain(segment: str) -> str:
    """A path segment, decoded; what cannot be text that we store names nothing."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise NotFoundError from None
    if "\0" in text:
        raise NotFoundError
    return text


def _is_closed(kind: msgspec.inspect.Type, around: tuple[type, ...]) -> bool:
    """Whether what is decoded as this type can only be so deep, and has no integer that the type does not bound."""
    inner: Sequence[msgspec.inspect.Type] = ()
    if isinstance(kind, msgspec.inspect.StructType):
        if kind.cls in around or not kind.forbid_unknown_fields:
            return False
        inner, around = [field.type for field in kind.fields], (*around, kind.cls)
    elif isinstance(kind, msgspec.inspect.UnionType):
        inner = kind.types
    elif isinstance(kind, msgspec.inspect.ListType):
        inner = [kind.item_type]
    elif isinstance(kind, msgspec.inspect.Metadata):
        inner = [kind.type]
    if inner:
        return all(_is_closed(one, around) for one in inner)
    if isinstance(kind, msgspec.inspect.IntType):
        return kind.ge is not None and kind.le is not None
    return isinstance(kind, _SCALARS)


def _is_list(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_list(one) for one in kind.types)
    if isinstance(kind, msgspec.inspect.Metadata):
        return _is_list(kind.type)
    return isinstance(kind, msgspec.inspect.ListType)


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(faults=[Fault("", f"is nested deeper than {DEPTH_MAX} levels")])


def _check_depth(raw: bytes) -> None:
    if is_deep(raw):
        raise _too_deep()


def is_deep(raw: bytes) -> bool:
    """Whether JSON that was decoded before is nested deeper than what walks it (DEPTH_MAX); a few ms for a megabyte."""
    if raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:  # nearly every body ends here
        return False
    if b"\\" in raw:  # an even number of them in front of a quote are backslashes, an odd one's last escapes it
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(raw.translate(None, _UNMARKED), np.uint8)
    # Now that no quote is escaped, brackets behind an odd number of quotes stand in a string.
    outside = ~np.logical_xor.accumulate(marks == ord('"'))
    steps = ((marks == ord("{")) | (marks == ord("["))).astype(np.int8) - ((marks == ord("}")) | (marks == ord("]")))
    return int(np.cumsum(steps * outside, dtype=np.int64).max(initial=0)) > DEPTH_MAX


def _check_numbers(raw: bytes) -> None:
    """Integers of free-form JSON fit into 64 bits, or what encodes and reads them later disagrees on their value."""
    for pointer, value in _leaves(msgspec.json.decode(raw), ""):
        if isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
            raise InvalidRequestError(faults=[Fault(pointer, "is an integer of more than 64 bits")])


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield pointer, value
        return
    for key, one in inner:
        yield from _leaves(one, f"{pointer}/{_escape(str(key))}")


def _is_whole(raw: bytes) -> bool:
    """Whether nothing is lost when it is read and written again, so that no key was there twice; False says nothing."""
    try:
        return b"\\u" not in raw and orjson.dumps(orjson.loads(raw)).count(b":") == raw.count(b":")
    except ValueError:  # what orjson is stricter about
        return False


def _check_repeats(raw: bytes) -> None:
    try:
        _search(raw.decode())
    except _RepeatedError:
        pointer = _repeat(json.loads(raw, object_pairs_hook=_Pairs), "")
        raise InvalidRequestError(faults=[Fault(pointer, "is there twice")]) from None


class _RepeatedError(ValueError):
    """A key stands twice in one object."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, with its repeats."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _RepeatedError
    return made


def _repeat(value: Any, pointer: str) -> str:
    """Pointer to the first key that stands twice; empty when there is none."""
    steps = value if isinstance(value, _Pairs) else enumerate(value) if isinstance(value, list) else ()
    seen: set[str | int] = set()
    for key, inner in steps:
        here = f"{pointer}/{_escape(str(key))}"
        if key in seen:
            return here
        seen.add(key)
        if found := _repeat(inner, here):
            return found
    return ""


_search = json.JSONDecoder(object_pairs_hook=_distinct).decode
