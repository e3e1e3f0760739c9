"""Backendless' users: signed up, logged in and out, changed; what they have beside, templates and audiences know."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import uuid4

from protocols import smtp
from pushd.commands import accounts
from pushd.commands import users as people
from pushd.dialect import Dialect
from pushd.dialects.backendless import wire
from pushd.dialects.backendless.wire import Code, Who
from pushd.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnauthorizedError,
)
from pushd.model.account import Account
from pushd.model.app import Role
from pushd.model.attributes import LIST_MAX, NAME_MAX, PER_USER_MAX, TEXT_MAX
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

TOKEN_BYTES = 16
GUEST = "GUEST"
_OWN = frozenset(
    ("password", "email", "login", "objectId", "ownerId", "user-token", "___class", "created", "updated", "userStatus")
)
"""What of a user is not just kept."""
_NUMBER_MAX = 2**53


async def sign_up(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST users/register: nobody is logged in by it. A guest who says his `objectId` becomes a user."""
    who = await wire.who(dialect, incoming, with_user=False)
    body = await wire.body(dialect, incoming)
    login, email = names_of(body)
    password = wire.text(body.get("password"))
    if not (login or email):
        raise wire.wrong("email", "is missing: users have an email, or a login", Code.IDENTITY_MISSING)
    if not password:
        raise wire.wrong("password", "is missing", Code.PASSWORD_MISSING)
    own: dict[str, Any] = {"login": login, "email": email, "password": password, "fields": _fields(body)}
    try:
        if body.get("objectId"):
            guest = await _guest(dialect, incoming, wire.text(body["objectId"]))
            account = await accounts.change(dialect.context, guest, **own, attributes=attributes_of(body))
        else:
            account = await accounts.sign_up(
                dialect.context, who.app_id, external_id=_object_id(), **own, attributes=attributes_of(body)
            )
    except ConflictError:
        raise wire.coded(ConflictError("User already exists"), Code.USER_EXISTS) from None
    return wire.told(_shown(account))


async def sign_guest_up(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST users/register/guest: and logs him in."""
    who = await wire.who(dialect, incoming, with_user=False)
    account = await accounts.sign_up(
        dialect.context,
        who.app_id,
        external_id=_object_id(),
        login=f"guest_{secrets.token_hex(12)}",
        email=None,
        password=secrets.token_hex(16),
        fields={"userStatus": GUEST},
    )
    return wire.told(await _logged_in(dialect, who, account))


async def log_in(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST users/login: by login or email and password; servers log anybody in by `objectId`."""
    who = await wire.who(dialect, incoming, with_user=False)
    body = await wire.body(dialect, incoming)
    name, password = wire.text(body.get("login")).strip(), wire.text(body.get("password"))
    wrong = wire.coded(UnauthorizedError("Invalid login or password"), Code.LOGIN)
    try:
        if not name and body.get("objectId") and who.role is Role.SERVER:
            account = await _named(dialect, who.app_id, wire.text(body["objectId"]))
        else:
            account = await _known(dialect, who.app_id, name, password)
    except (UnauthorizedError, NotFoundError):
        raise wrong from None
    return wire.told(await _logged_in(dialect, who, account))


async def log_out(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET users/logout: whatever the token was good for."""
    await wire.who(dialect, incoming, with_user=False)
    if given := wire.token(incoming):
        await accounts.close_session(dialect.context, given)
    return Answer(headers=wire.CORS, content_type="text/plain; charset=utf-8")


async def check_token(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET users/isvalidusertoken/{token}."""
    who = await wire.who(dialect, incoming, with_user=False)
    found = await wire.session(dialect, wire.values(incoming)[0], who.app_id)
    return wire.told(found is not None)


async def change(dialect: Dialect, incoming: Incoming) -> Answer:
    """PUT users/{id}: oneself; servers change everybody."""
    who = await wire.who(dialect, incoming)
    account = await _named(dialect, who.app_id, wire.values(incoming)[0])
    if who.role is Role.DEVICE and account.user_id != who.user_id:
        raise ForbiddenError("Users change themselves alone")
    body = await wire.body(dialect, incoming)
    login, email = names_of(body)
    try:
        changed = await accounts.change(
            dialect.context,
            account,
            login=login,
            email=email,
            password=wire.text(body.get("password")) or None,
            fields=_fields(body),
            attributes=attributes_of(account.fields | body),
        )
    except ConflictError:
        raise wire.coded(ConflictError("User already exists"), Code.USER_EXISTS) from None
    return wire.told(_shown(changed))


async def restore(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET users/restorepassword/{identity}: InvalidRequestError."""
    await wire.who(dialect, incoming, with_user=False)
    raise InvalidRequestError("Passwords are not restored by mail here: a server sets a new one with PUT users/{id}")


async def external_id(dialect: Dialect, who: Who) -> str | None:
    """What pushd calls the user who is logged in; None: nobody is."""
    if who.user_id is None:
        return None
    return (await accounts.get(dialect.context, who.app_id, who.user_id)).external_id


async def _known(dialect: Dialect, app_id: int, name: str, password: str) -> Account:
    """Who has this name, be it his address or his login, and this password; UnauthorizedError."""
    email = name if "@" in name else None
    return await accounts.log_in(dialect.context, app_id, login=name, email=email, password=password)


async def _named(dialect: Dialect, app_id: int, object_id: str) -> Account:
    """The account of an object id; NotFoundError."""
    gone = NotFoundError("There is no such user")
    if not 0 < len(object_id) <= 255 or "\0" in object_id:
        raise gone
    try:
        user = await people.get(dialect.context, app_id, object_id)
        return await accounts.get(dialect.context, app_id, user.id)
    except NotFoundError:
        raise gone from None


async def _guest(dialect: Dialect, incoming: Incoming, object_id: str) -> Account:
    """The guest who asks; ForbiddenError where that is not who is named."""
    who = await wire.who(dialect, incoming)
    account = await _named(dialect, who.app_id, object_id)
    if account.user_id != who.user_id or account.fields.get("userStatus") != GUEST:
        raise ForbiddenError("Only a guest who is logged in becomes a user by his objectId")
    return account


async def _logged_in(dialect: Dialect, who: Who, account: Account) -> dict[str, Any]:
    _, token = await accounts.open_session(
        dialect.context,
        who.app_id,
        wire.NAME,
        account.user_id,
        token_bytes=TOKEN_BYTES,
        lives_s=wire.LIVES_S,
        key_id=who.key_id,
    )
    return _shown(account) | {"user-token": token}


def _object_id() -> str:
    return str(uuid4()).upper()


def names_of(body: dict[str, Any]) -> tuple[str | None, str | None]:
    """Login and address, as far as they are given; InvalidRequestError."""
    login, email = (wire.text(body.get(name)).strip() for name in ("login", "email"))
    try:
        return login or None, smtp.check_address(email) if email else None
    except ValueError:
        raise wire.wrong("email", "is in the wrong format", Code.EMAIL_FORMAT) from None


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    """What a user has beside, as it was given; whoever signs up is enabled."""
    return {name: value for name, value in body.items() if name not in _OWN} | {"userStatus": "ENABLED"}


def attributes_of(body: dict[str, Any]) -> dict[str, Any]:
    """Of that what audiences and templates can make something of: texts, numbers, truths, lists of texts."""
    fit = {name: value for name, value in body.items() if name not in _OWN and len(name) <= NAME_MAX and _fits(value)}
    return dict(list(fit.items())[:PER_USER_MAX])


def _fits(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= LIST_MAX and all(isinstance(each, str) and len(each) <= TEXT_MAX for each in value)
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    return isinstance(value, bool | int | float) and abs(value) <= _NUMBER_MAX


def _shown(account: Account) -> dict[str, Any]:
    """A user as he is told; never with a password."""
    login = account.login if account.fields.get("userStatus") != GUEST else None
    return {
        "blUserLocale": "en",
        **account.fields,
        **({} if login is None else {"login": login}),
        "email": account.email,
        "objectId": account.external_id,
        "ownerId": account.external_id,
        "___class": "Users",
        "created": round(account.created_at * 1000),
        "updated": round(account.updated_at * 1000),
    }
