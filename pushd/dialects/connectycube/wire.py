"""What all calls of ConnectyCube have in common: bodies, scalars that come in several types, sessions, answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from pushd.commands import accounts
from pushd.dialect import Dialect
from pushd.errors import Fault, ForbiddenError, InvalidRequestError, NotFoundError, UnauthorizedError
from pushd.model.account import Account, Session
from pushd.model.vendor_key import DialectName
from pushd.web.answer import Answer, Headers
from pushd.web.decode import json_fields
from pushd.web.incoming import Incoming

NAME = DialectName.CONNECTYCUBE
BODY_BYTES_MAX = 1_048_576
FORM = "application/x-www-form-urlencoded"
LIVES_S = 7_200.0
"""A session lives so long after its last use."""
DEPTH_MAX = 8
"""Of the keys of a form."""
FIELDS_MAX = 10_000
NUMBER_DIGITS_MAX = 15
CORS = Headers({"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "CB-Token-ExpirationDate"})
_TRUE, _FALSE = frozenset(("true", "1")), frozenset(("false", "0", ""))
_PART = re.compile(r"\[([^\[\]]*)\]")


def wrong(field: str, detail: str) -> InvalidRequestError:
    """A field that is not as it should be."""
    return InvalidRequestError(
        f"{field} {detail}", faults=[Fault(f"/{field}", detail)], extra={"errors": {field: [detail]}}
    )


# Bodies -----------------------------------------------------------------------------------------------------------


async def body(cube: Dialect, incoming: Incoming) -> dict[str, Any]:
    """The fields of a body, JSON or a form with nested keys; InvalidRequestError. An empty body has none."""
    raw = await cube.body(incoming, BODY_BYTES_MAX)
    return parse(raw, incoming.headers.get("Content-Type", "").partition(";")[0].strip().lower() == FORM)


def parse(raw: bytes, is_form: bool) -> dict[str, Any]:
    """The fields of a body; InvalidRequestError."""
    if is_form and not raw[:256].lstrip().startswith(b"{"):  # curl's -d says that it is a form, whatever it is
        return _nested(raw)
    return json_fields(raw, _wrong)


def _wrong(detail: str) -> InvalidRequestError:
    return wrong("base", f"The body {detail}")


def _nested(raw: bytes) -> dict[str, Any]:
    """A form's fields, `event[user][ids]` inside one another, `ids[]` as lists."""
    made: dict[str, Any] = {}
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise wrong("base", "The body is not a form") from None
    for name, value in pairs:
        top, bracket, _ = name.partition("[")
        path = [top, *_PART.findall(name[len(top) :])] if bracket else [top]
        if len(path) <= DEPTH_MAX:
            _put(made, path, value)
    return made


def _put(made: dict[str, Any], path: list[str], value: str) -> None:
    place: Any = made
    for name, further in pairwise(path):
        if not further:
            if not isinstance(place.setdefault(name, []), list):
                raise wrong("base", "The form has a field that is a list and is none")
            place[name].append(value)
            return
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise wrong("base", "The form has a field that is an object and is none")
    place[path[-1]] = value


def lines(given: Mapping[str, Any], within: str = "") -> list[str]:
    """Every parameter as `name=value`, nested ones like `user[login]=anna`: what is signed."""
    made: list[str] = []
    for name, value in given.items():
        full = f"{within}[{name}]" if within else name
        if isinstance(value, dict):
            made += lines(value, full)
        elif isinstance(value, list):
            made += [f"{full}[]={text(each)}" for each in value]
        else:
            made.append(f"{full}={text(value)}")
    return made


# Scalars ----------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """A scalar as text; nothing for what is none."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else ""


def number(value: Any, field: str) -> int | None:
    """A whole number, also as text or with a fraction of nothing; None for nothing. InvalidRequestError."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = text(value).strip() if not isinstance(value, bool) else ""
    digits = said.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= NUMBER_DIGITS_MAX):
        raise wrong(field, "is not a number")
    return int(said)


def truth(value: Any, field: str) -> bool | None:
    """A boolean in any of its forms; None for nothing. InvalidRequestError."""
    if value is None:
        return None
    said = text(value).strip().lower()
    if said not in _TRUE | _FALSE:
        raise wrong(field, "is neither true nor false")
    return said in _TRUE


def names(value: Any, field: str) -> list[str]:
    """A list, or texts between commas, without repetitions; InvalidRequestError."""
    if value is None:
        return []
    if isinstance(value, str) and "," not in value:  # most name one
        return [said] if (said := value.strip()) else []
    if isinstance(value, dict):
        raise wrong(field, "is not a list")
    given = value if isinstance(value, list) else text(value).split(",")
    return list(dict.fromkeys(said for each in given if (said := text(each).strip())))


def inside(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within an object, empty where there is none; InvalidRequestError where it is something else."""
    value = given.get(name)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise wrong(name, "is not an object")
    return value


def path_number(incoming: Incoming) -> int:
    """The id in a path, with `.json` or without; 0 where it is no number."""
    said = unquote(incoming.path_values[0]).removesuffix(".json")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 9 else 0


# Sessions ---------------------------------------------------------------------------------------------------------


def token(incoming: Incoming) -> str:
    """The token of a request; an empty one is none."""
    return str(incoming.headers.get("CB-Token", "")).strip()


async def session(cube: Dialect, incoming: Incoming) -> Session:
    """Whose request it is; UnauthorizedError."""
    given = token(incoming)
    if not given:
        raise UnauthorizedError("Token is required", extra={"errors": ["Token is required"]})
    found = await accounts.session(cube.context, NAME, given, lives_s=LIVES_S)
    if found is None:
        # The SDKs log in again at exactly these words.
        detail = "Required session does not exist"
        raise UnauthorizedError(detail, extra={"errors": {"base": [detail]}})
    incoming.caller = f"{NAME}:{found.id}"
    return found


async def account(cube: Dialect, own: Session) -> Account:
    """Who has logged in; ForbiddenError where nobody has."""
    if own.user_id is not None:
        try:
            return await accounts.get(cube.context, own.app_id, own.user_id)
        except NotFoundError:
            pass
    raise ForbiddenError("Forbidden. Need user.")


# Answers ----------------------------------------------------------------------------------------------------------


@lru_cache
def iso(at: float) -> str:
    """A time as the vendor writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON, which scripts of other origins may read."""
    return Answer(orjson.dumps(content), status=status, headers={**CORS, **headers} if headers else CORS)


def done() -> Answer:
    """The answer where there is nothing to tell: a blank, for no SDK takes an empty one."""
    return Answer(b" ", headers=CORS, content_type="text/plain; charset=utf-8")
