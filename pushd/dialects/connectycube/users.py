"""ConnectyCube's users: signed up with a session or an auth key, looked at and changed."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from protocols import smtp
from pushd.commands import accounts, devices, users
from pushd.dialect import Dialect
from pushd.dialects.connectycube import wire
from pushd.dialects.connectycube.signature import key_of
from pushd.errors import ForbiddenError, NotFoundError, UnauthorizedError
from pushd.model.account import Account
from pushd.model.app import Role
from pushd.model.device import ID_MAX, Kind, Platform, Registration
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

SAID = ("full_name", "phone", "website", "custom_data", "avatar")
"""What a user has beside names and tags, as it was given."""


async def sign_up(cube: Dialect, incoming: Incoming) -> Answer:
    """POST /users: with a session, or with the auth key alone."""
    given = wire.inside(await wire.body(cube, incoming), "user")
    if auth_key := str(incoming.headers.get("CB-AuthKey", "")).strip():
        app_id = (await key_of(cube, {"auth_key": auth_key}, incoming)).app_id
    else:
        app_id = (await wire.session(cube, incoming)).app_id
    return wire.told(await shown(cube, await signed_up(cube, app_id, given)), 201)


async def show_user(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/{id}: one's own; servers see all."""
    return wire.told(await shown(cube, await _named(cube, incoming)))


async def change_user(cube: Dialect, incoming: Incoming) -> Answer:
    """PUT /users/{id}: one's own, a new password beside the old one; servers change all."""
    account = await _named(cube, incoming)
    own = await wire.session(cube, incoming)
    given = wire.inside(await wire.body(cube, incoming), "user")
    password = wire.text(given.get("password"))
    if password and own.role is Role.DEVICE:
        before = {"login": account.login, "email": account.email, "password": given.get("old_password")}
        await logged_in(cube, own.app_id, before)
    if given.get("external_user_id") and wire.text(given["external_user_id"]) != _external(account):
        raise wire.wrong("external_user_id", "cannot be changed")
    email = _email(given)
    changed = await accounts.change(
        cube.context,
        account,
        login=wire.text(given.get("login")) or None,
        email=email,
        password=password or None,
        tags=wire.names(given["tag_list"], "tag_list") if "tag_list" in given else None,
        fields=_fields(given),
    )
    await _register_email(cube, changed, email)
    return wire.told(await shown(cube, changed))


async def delete_user(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /users/{id}: oneself, with his address; servers delete all."""
    account = await _named(cube, incoming)
    theirs = await devices.list_page(
        cube.context, account.app_id, after=0, limit=1, install_id=f"email:{account.user_id}"
    )
    for device in theirs:
        await devices.delete(cube.context, account.app_id, device.id)
    await accounts.delete(cube.context, account)
    return wire.done()


async def logged_in(cube: Dialect, app_id: int, given: dict[str, Any]) -> Account:
    """Who has this name and password; UnauthorizedError."""
    try:
        return await accounts.log_in(
            cube.context,
            app_id,
            login=wire.text(given.get("login")) or None,
            email=wire.text(given.get("email")) or None,
            password=wire.text(given.get("password")),
        )
    except UnauthorizedError:
        raise UnauthorizedError("Unauthorized", extra={"errors": ["Unauthorized"]}) from None


async def signed_up(cube: Dialect, app_id: int, given: dict[str, Any]) -> Account:
    """The new account. InvalidRequestError, ConflictError."""
    external = wire.text(given.get("external_user_id"))
    email = _email(given)
    account = await accounts.sign_up(
        cube.context,
        app_id,
        external_id=external or f"connectycube:{uuid4().hex}",
        login=wire.text(given.get("login")) or None,
        email=email,
        password=wire.text(given.get("password")),
        tags=wire.names(given.get("tag_list"), "tag_list"),
        fields=_fields(given),
    )
    await _register_email(cube, account, email)
    return account


def _email(given: dict[str, Any]) -> str | None:
    email = wire.text(given.get("email")).strip()
    try:
        return smtp.check_address(email) if email else None
    except ValueError:
        raise wire.wrong("email", "is invalid") from None


async def _register_email(cube: Dialect, account: Account, email: str | None) -> None:
    """Makes the user's address one that events of type email reach."""
    if email is not None:
        address = Registration(
            install_id=f"email:{account.user_id}",
            kind=Kind.EMAIL,
            token=email,
            user_id=account.external_id,
            platform=Platform.EMAIL,
        )
        await devices.register(cube.context, account.app_id, address)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: given[name] for name in SAID if name in given}
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            fields[name] = wire.text(value)
    return fields


async def _named(cube: Dialect, incoming: Incoming) -> Account:
    own = await wire.session(cube, incoming)
    number = wire.path_number(incoming)
    if own.role is Role.DEVICE and number != (await wire.account(cube, own)).user_id:
        raise ForbiddenError("Forbidden. This is another user.")
    try:
        return await accounts.get(cube.context, own.app_id, min(number, ID_MAX))
    except NotFoundError:
        raise NotFoundError("User not found") from None


def _external(account: Account) -> str:
    return "" if account.external_id.startswith("connectycube:") else account.external_id


async def shown(cube: Dialect, account: Account) -> dict[str, Any]:
    """A user as he is told."""
    return {"user": told(account, (await users.get(cube.context, account.app_id, account.external_id)).tags)}


def told(account: Account, tags: list[str], *, whole: bool = True) -> dict[str, Any]:
    """A user with his tags; to others without how he is reached."""
    external = _external(account)
    digits = external.isascii() and external.isdigit() and len(external) <= wire.NUMBER_DIGITS_MAX
    said = {name: account.fields.get(name) if whole or name != "phone" else None for name in SAID}
    return {
        "id": account.user_id,
        "login": account.login,
        "email": account.email if whole else None,
        **said,
        "external_user_id": int(external) if digits else external or None,
        "facebook_id": None,
        "twitter_id": None,
        "user_tags": ",".join(tags) or None,
        "created_at": wire.iso(account.created_at),
        "updated_at": wire.iso(account.updated_at),
        "last_request_at": wire.iso(account.updated_at),
    }
