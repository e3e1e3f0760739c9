"""What all calls of Backendless have in common: who asks, bodies, scalars in several types, errors, answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson

from pushd.commands import accounts
from pushd.dialect import Dialect
from pushd.errors import Fault, InvalidRequestError, NotFoundError, PushdError, UnauthorizedError
from pushd.model.account import Session
from pushd.model.app import Role
from pushd.model.vendor_key import DialectName
from pushd.web.answer import Answer, Headers
from pushd.web.decode import json_fields
from pushd.web.incoming import Incoming

NAME = DialectName.BACKENDLESS
BODY_BYTES_MAX = 1_048_576
LIVES_S = 90 * 86_400.0
"""A user's token lives so long after its last use."""
NUMBER_CHARS_MAX = 20
MILLISECONDS_FROM = 1e11
"""A time above is said in milliseconds, one below in seconds."""
CORS = Headers({"Access-Control-Allow-Origin": "*"})
_Error = TypeVar("_Error", bound=PushdError)


class Code:
    """Numbers of the vendor's errors."""

    APPLICATION = 2002
    """Application id and API key are not known together."""
    LOGIN = 3003
    USER_EXISTS = 3033
    PASSWORD_MISSING = 3011
    IDENTITY_MISSING = 3013
    EMAIL_FORMAT = 3040
    TOKEN = 3064
    """The user token is not known, or is over; SDKs drop it."""
    DEVICE = 5000
    """Of look-ups of devices that are not registered."""
    UNREGISTER = 5001
    REPEAT_EXPIRES_AT = 5003
    EXPIRATION = 5004
    PERMISSION = 5007
    PUBLISH_AT = 5030
    CANCEL = 5040


def coded(error: _Error, code: int) -> _Error:
    """The error with the vendor's number."""
    error.extra["code"] = code
    return error


def wrong(field: str, detail: str, code: int = 400) -> InvalidRequestError:
    """A field that is not as it should be."""
    return coded(InvalidRequestError(f"{field} {detail}", faults=[Fault(f"/{field}", detail)]), code)


# Who asks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Who sent a request, and what he may do."""

    app_id: int
    identity: str
    """The application id."""
    api_key: str | None
    """None: it came by the app's own domain, which needs none."""
    key_id: int | None
    key_role: Role
    session: Session | None

    @property
    def role(self) -> Role:
        """Who speaks for a user may do what that user may, whatever key comes along."""
        return self.key_role if self.session is None else Role.DEVICE

    @property
    def user_id(self) -> int | None:
        """The numeric id of the user who has logged in."""
        return None if self.session is None else self.session.user_id


async def who(dialect: Dialect, incoming: Incoming, *, with_user: bool = True) -> Who:
    """Whose request it is, with the user of its token or without; UnauthorizedError, TooManyRequestsError."""
    if incoming.route.startswith("/{"):
        identity, secret = (unquote(each) for each in incoming.path_values[:2])
        try:
            caller = await dialect.keys.caller(NAME, identity, secret, incoming, server=False)
        except UnauthorizedError:
            raise _unknown() from None
        app_id, key_id, role, api_key = caller.app, caller.key.id, caller.role, secret
    else:
        identity = domain(dialect, incoming) or ""
        held = await dialect.keys.signers(NAME, identity, incoming) if identity else ()
        if not held:
            raise _unknown()
        app_id, key_id, role, api_key = held[0].key.app_id, None, Role.DEVICE, None
    given = token(incoming) if with_user else ""
    own = await session(dialect, given, app_id) if given else None
    if given and own is None:
        raise coded(UnauthorizedError("Not existing user token. Please login again"), Code.TOKEN)
    incoming.caller = f"{NAME}:{app_id}" if own is None else f"{NAME}:{app_id}:{own.id}"
    return Who(app_id=app_id, identity=identity, api_key=api_key, key_id=key_id, key_role=role, session=own)


def domain(dialect: Dialect, incoming: Incoming) -> str | None:
    """The application id of the host that a request was sent to; None where the host is nobody's own."""
    host = incoming.headers.get("Host", "").partition(":")[0].lower()
    return dialect.context.config.dialects.backendless_domains.get(host)


def token(incoming: Incoming) -> str:
    """The user token of a request; "" where there is none."""
    return str(incoming.headers.get("user-token", "")).strip()


async def session(dialect: Dialect, given: str, app_id: int) -> Session | None:
    """The session of a user's token in this app; None where the token is unknown, or over."""
    found = await accounts.session(dialect.context, NAME, given, lives_s=LIVES_S)
    return found if found is not None and found.app_id == app_id and found.user_id is not None else None


def _unknown() -> UnauthorizedError:
    return coded(
        UnauthorizedError("Wrong application info: application id and API key are not known together"),
        Code.APPLICATION,
    )


def values(incoming: Incoming) -> tuple[str, ...]:
    """What stands in the path for parameters, without application id and API key; NotFoundError."""
    found = incoming.path_values[2 if incoming.route.startswith("/{") else 0 :]
    said = tuple(unquote(each) for each in found)
    if any("\0" in each for each in said):
        raise NotFoundError("There is nothing of this name")
    return said


# Bodies -----------------------------------------------------------------------------------------------------------


async def body(dialect: Dialect, incoming: Incoming) -> dict[str, Any]:
    """The fields of a body; InvalidRequestError. An empty body has none."""
    return parse(await dialect.body(incoming, BODY_BYTES_MAX))


def parse(raw: bytes) -> dict[str, Any]:
    """The fields of a body, those that are null left out; InvalidRequestError."""
    given = json_fields(raw, partial(wrong, "body"))
    return {name: value for name, value in given.items() if value is not None}


# Scalars ----------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Any JSON value as a text: texts as they are, null as none, the rest as JSON."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def number(value: Any) -> float | None:
    """A number, also as text; None for what is none."""
    if isinstance(value, str) and len(value) <= NUMBER_CHARS_MAX:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def seconds(value: float) -> float:
    """UNIX seconds of a time that may be said in milliseconds."""
    return value / 1000 if value > MILLISECONDS_FROM else value


# Answers ----------------------------------------------------------------------------------------------------------


def told(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON, which scripts of other origins may read."""
    return Answer(orjson.dumps(content), status=status, headers={**CORS, **headers} if headers else CORS)
