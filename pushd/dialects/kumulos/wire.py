"""What all calls of Kumulos have in common: the two secrets of an app, bodies, answers, and how times are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson

from pushd.dialect import Dialect
from pushd.dialects.kumulos.fields import NUMBER_DIGITS_MAX, Fields, wrong
from pushd.errors import InvalidRequestError, NotFoundError, UnauthorizedError
from pushd.model.app import Role
from pushd.model.device import ID_MAX
from pushd.model.vendor_key import DialectName
from pushd.web.answer import Answer, Headers
from pushd.web.auth import basic
from pushd.web.caller import Caller
from pushd.web.decode import json_fields, json_value
from pushd.web.incoming import Incoming

NAME = DialectName.KUMULOS
BODY_BYTES_MAX = 4 * 1_048_576
"""A hundred thousand users, each by a name of some twenty characters."""
CORS = Headers({"Access-Control-Allow-Origin": "*"})
ODD_BYTES_MAX = 524_288
"""Lists up to this are taken apart where they cannot be read whole: an SDK sends a hundred events at most."""
NAME_CHARS_MAX = 255


# Who asks ---------------------------------------------------------------------------------------------------------


async def server(kumulos: Dialect, incoming: Incoming) -> Caller:
    """The back end that has the app's server key; UnauthorizedError for the secret of its devices, too."""
    return await _caller(kumulos, incoming, Role.SERVER)


async def device(kumulos: Dialect, incoming: Incoming) -> Caller:
    """The device that has the app's secret key; UnauthorizedError for the server key, which no app may carry."""
    return await _caller(kumulos, incoming, Role.DEVICE)


async def either(kumulos: Dialect, incoming: Incoming) -> Caller:
    """Whoever has one of the two; UnauthorizedError."""
    return await _caller(kumulos, incoming, None)


async def _caller(kumulos: Dialect, incoming: Incoming, role: Role | None) -> Caller:
    identity, secret = basic(incoming)
    found = await kumulos.keys.caller(NAME, identity, secret, incoming, server=False)
    if role not in (None, found.role):
        raise UnauthorizedError("This is not the secret that belongs to this call")
    return found


# What they send ---------------------------------------------------------------------------------------------------


async def raw(kumulos: Dialect, incoming: Incoming) -> bytes:
    """The body, whatever type it says that it is of."""
    return await kumulos.body(incoming, BODY_BYTES_MAX)


async def body(kumulos: Dialect, incoming: Incoming) -> Fields:
    """The fields of a body; InvalidRequestError."""
    return fields_of(await raw(kumulos, incoming))


def fields_of(given: bytes) -> Fields:
    """The fields of a body, none of an empty one; InvalidRequestError."""
    return Fields(json_fields(given, _wrong))


def decoded(given: bytes) -> Any:
    """The JSON of a body; InvalidRequestError, also where it is nested deeper than what walks it."""
    return json_value(given, _wrong)


def elements(given: bytes) -> list[Any]:
    """The elements of a body that is a list, without those that cannot be read; InvalidRequestError.

    They may go too deep; a half of a surrogate pair, as browsers write a text that was cut there, is read as "?".
    """
    try:
        found = decoded(given)
    except InvalidRequestError as error:
        found = _one_by_one(given)
        if found is None:
            raise error from None
    if not isinstance(found, list):
        raise _wrong("is not a list")
    return found


def _one_by_one(given: bytes) -> list[Any] | None:
    try:
        parts = json.loads(given) if len(given) <= ODD_BYTES_MAX else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(parts, list):
        return None
    found = []
    for part in parts:
        with suppress(InvalidRequestError):
            found.append(decoded(json.dumps(part, ensure_ascii=False).encode("utf-8", "replace")))
    return found


_wrong = partial(wrong, "body")


def path_text(incoming: Incoming, at: int = 0) -> str:
    """A name in the path; NotFoundError where it cannot be one."""
    text = unquote(incoming.path_values[at])
    if not 0 < len(text) <= NAME_CHARS_MAX or "\0" in text:
        raise NotFoundError
    return text


def path_number(incoming: Incoming, what: str) -> int:
    """The id in the path; NotFoundError where it is none."""
    said = unquote(incoming.path_values[0])
    number = int(said) if said.isascii() and said.isdigit() and len(said) <= NUMBER_DIGITS_MAX else 0
    if not 0 < number <= ID_MAX:
        raise NotFoundError(f"There is no such {what}")
    return number


# What they are told -----------------------------------------------------------------------------------------------


def told(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON, which scripts of other origins may read."""
    return Answer(orjson.dumps(content), status=status, headers={**CORS, **headers} if headers else CORS)


def plain_json(value: Any) -> Any:
    """JSON that a command hands on, as text or as values, as values."""
    return msgspec.json.decode(msgspec.json.encode(value))


def done() -> Answer:
    """204, where the vendor's is one."""
    return Answer(status=204, headers=CORS)


def iso(at: float) -> str:
    """A time as nearly all of the vendor's are written: no `Z`, no colon in the offset, no fraction."""
    return _second(int(at))


@lru_cache(maxsize=64)  # many answers are of the same second
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def iso_or_none(at: float | None) -> str | None:
    """The same; null for none."""
    return None if at is None else iso(at)


def plain(at: float) -> str:
    """A time as those of channels and opens are written."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
