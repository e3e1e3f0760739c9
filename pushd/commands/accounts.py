"""Accounts and sessions: who signs up, logs in and goes on, for dialects whose SDKs know users."""

from __future__ import annotations

from typing import Any

import msgspec

from pushd.commands import users
from pushd.commands.context import Context
from pushd.commands.passwords import is_password, seal
from pushd.commands.text import check_text, text_faults
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError, UnauthorizedError, UnavailableError
from pushd.model.account import PASSWORD_CHARS_MAX, Account, AccountPage, AccountQuery, Session
from pushd.model.app import Role
from pushd.model.attributes import check as check_attributes
from pushd.model.user import UserChange
from pushd.model.vendor_key import DialectName

NAME_CHARS_MAX = 254
FIELDS_BYTES_MAX = 16_384
TRIES_MAX = 8
"""A change that somebody else's overtook is made again so often; each of theirs was one that succeeded."""


async def sign_up(
    context: Context,
    app_id: int,
    *,
    external_id: str,
    login: str | None,
    email: str | None,
    password: str,
    tags: list[str] | None = None,
    fields: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
) -> Account:
    """The new account; its user is created where he is not known. InvalidRequestError, ConflictError."""
    names = _folded(login, email)
    given = {"tags": tags or [], "fields": fields or {}, "attributes": attributes or {}}
    check_text({"external_id": external_id, "names": names, **given})
    change = _change(external_id, email, tags, attributes)
    if faults := _faults(names, password, fields or {}) + check_attributes(attributes or {}):
        raise InvalidRequestError("The account is not valid", faults=faults)
    sealed = await seal(password)
    await context.whole(_create(context, app_id, change, names, sealed, fields or {}))
    found = await context.store.accounts.find(app_id, login=names[0], email=names[1])
    if found is None:
        raise NotFoundError("The account is gone again")
    return found[0]


async def log_in(context: Context, app_id: int, *, login: str | None, email: str | None, password: str) -> Account:
    """The account of this name and password, found by address, or else by login; UnauthorizedError says no more.

    TooManyRequestsError after too many wrong ones for this account, or for a name that nobody has, which looks alike:
    then also the right one has to wait.
    """
    names, wrong = _folded(login, email), UnauthorizedError("Name and password do not belong together")
    known = None
    if not any(names):
        raise wrong
    if len(password) <= PASSWORD_CHARS_MAX and not text_faults(names):
        known = await _named(context, app_id, names)
    who = known[0].user_id if known is not None else str(names[0] or names[1])[:NAME_CHARS_MAX]
    # Counted before it is tried: many tries at once are no more than so many.
    context.passwords.admit(app_id, who, context.clock.monotonic())
    is_wrong = True
    try:
        is_wrong = not await is_password(None if known is None else known[1], password[:PASSWORD_CHARS_MAX])
    except UnavailableError:
        is_wrong = False
        raise
    finally:
        context.passwords.tried(app_id, who, context.clock.monotonic(), wrong=is_wrong)
    if is_wrong or known is None:
        raise wrong
    return known[0]


async def _named(context: Context, app_id: int, names: tuple[str | None, str | None]) -> tuple[Account, bytes] | None:
    login, email = names
    known = None
    if email is not None:
        known = await context.store.accounts.find(app_id, login=None, email=email)
    if known is None and login is not None:
        known = await context.store.accounts.find(app_id, login=login, email=None)
    return known


async def get(context: Context, app_id: int, user_id: int) -> Account:
    """The account of a user; NotFoundError."""
    account = await context.store.accounts.get(app_id, user_id)
    if account is None:
        raise NotFoundError("There is no such account")
    return account


async def change(
    context: Context,
    account: Account,
    *,
    login: str | None = None,
    email: str | None = None,
    password: str | None = None,
    tags: list[str] | None = None,
    fields: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
) -> Account:
    """The account after the change; what is None stays, and attributes that are not named.

    InvalidRequestError, ConflictError, NotFoundError.
    """
    given, sealed = _folded(login, email), None
    for _ in range(TRIES_MAX):
        names = given[0] or account.login, given[1] or account.email
        merged = account.fields | (fields or {})
        check_text({"names": names, "tags": tags or [], "fields": merged, "attributes": attributes or {}})
        whole = attributes
        if attributes:
            whole = (await users.get(context, account.app_id, account.external_id)).attributes | attributes
        faults = _faults(names, password if password is not None else "x", merged) + check_attributes(whole or {})
        if faults:
            raise InvalidRequestError("The account is not valid", faults=faults)
        if password is not None and sealed is None:
            sealed = await seal(password)
        wanted = msgspec.structs.replace(account, login=names[0], email=names[1], fields=merged)
        done = await context.whole(_write(context, wanted, sealed, _change(account.external_id, email, tags, whole)))
        account = await get(context, account.app_id, account.user_id)
        if done:
            return account
    raise ConflictError("The account is being changed by others: try again")


async def open_session(
    context: Context,
    app_id: int,
    dialect: DialectName,
    user_id: int | None,
    *,
    token_bytes: int,
    lives_s: float,
    key_id: int | None = None,
) -> tuple[Session, str]:
    """A new session of an app, or of a user who has just logged in, and its token.

    `key_id`: the vendor key that it is opened with, whose role it has, and with which it ends.
    """
    now = context.clock.now()
    return await context.store.sessions.open(
        app_id, dialect, user_id, token_bytes=token_bytes, lives_s=lives_s, now=now, key_id=key_id
    )


async def session(context: Context, dialect: DialectName, token: str, *, lives_s: float) -> Session | None:
    """The session of a token of this dialect, which lives so long from now on; None where there is none."""
    found = await context.store.sessions.find(token, lives_s=lives_s, now=context.clock.now())
    return found if found is not None and found.dialect is dialect else None


async def log_in_session(context: Context, own: Session, user_id: int | None) -> Session:
    """The session as a user's, or as nobody's; NotFoundError where it is over."""
    found = await context.store.sessions.log_in(own, user_id)
    if found is None:
        raise NotFoundError("The session is over")
    return found


async def close_session(context: Context, token: str) -> None:
    """Nothing, once the token is good for nothing."""
    await context.store.sessions.close(token)


async def close_session_of(context: Context, own: Session, session_id: int) -> None:
    """Nothing, once a session is over: of one's own user, or for servers of anybody. NotFoundError."""
    user_id = None if own.role is Role.SERVER else own.user_id
    theirs = own.role is Role.SERVER or user_id is not None or session_id == own.id
    if not theirs or not await context.store.sessions.close_one(own, session_id, user_id):
        raise NotFoundError("There is no such session")


async def close_other_sessions(context: Context, own: Session) -> None:
    """Nothing, once all other sessions of one's user are over; without a user there are none."""
    if own.user_id is not None:
        await context.store.sessions.close_others(own)


async def find(context: Context, app_id: int, query: AccountQuery, *, offset: int, limit: int) -> AccountPage:
    """A page of the accounts that are looked for, in the order of their numeric ids; names in any case."""
    check_text(query)
    folded = {
        name: None if given is None else [each.strip().casefold() for each in given]
        for name, given in (("logins", query.logins), ("emails", query.emails), ("tags", query.tags))
    }
    wanted = msgspec.structs.replace(query, **folded)
    return await context.store.accounts.page(app_id, wanted, offset=offset, limit=limit)


async def delete(context: Context, account: Account) -> None:
    """Nothing, once the account is gone with its user, and his sessions with it. NotFoundError."""
    await users.delete(context, account.app_id, account.external_id)


def _folded(login: str | None, email: str | None) -> tuple[str | None, str | None]:
    return (login.strip().casefold() or None) if login else None, (email.strip().casefold() or None) if email else None


def _change(
    external_id: str, email: str | None, tags: list[str] | None, attributes: dict[str, Any] | None
) -> UserChange:
    said: dict[str, Any] = {"external_id": external_id}
    if email:
        said["email"] = email
    if tags is not None:
        said["tags"] = tags
    if attributes:
        said["attributes"] = attributes
    try:
        return msgspec.convert(said, UserChange)
    except msgspec.ValidationError as error:
        raise InvalidRequestError("The user is not valid", faults=[Fault("/user", str(error))]) from None


def _faults(names: tuple[str | None, str | None], password: str, fields: dict[str, Any]) -> list[Fault]:
    faults = []
    if not any(names):
        faults.append(Fault("/login", "is missing: a login or an e-mail address"))
    for name, where in zip(names, ("/login", "/email"), strict=True):
        if name is not None and len(name) > NAME_CHARS_MAX:
            faults.append(Fault(where, f"is longer than {NAME_CHARS_MAX} characters"))
    if not 0 < len(password) <= PASSWORD_CHARS_MAX:
        faults.append(Fault("/password", f"is not of 1 to {PASSWORD_CHARS_MAX} characters"))
    if len(msgspec.json.encode(fields)) > FIELDS_BYTES_MAX:
        faults.append(Fault("/fields", f"are longer than {FIELDS_BYTES_MAX} bytes"))
    return faults


async def _create(
    context: Context,
    app_id: int,
    user: UserChange,
    names: tuple[str | None, str | None],
    password: bytes,
    fields: dict[str, Any],
) -> None:
    rows = await context.store.accounts.create(
        app_id,
        user,
        login=names[0],
        email=names[1],
        password=password,
        fields=fields,
        now=context.clock.now(),
    )
    if rows is None:
        raise ConflictError("There is an account with this login or address already")
    await context.index.take_in(users=rows)


async def _write(context: Context, account: Account, password: bytes | None, user: UserChange) -> bool:
    """Whether it is written; not, where the account is gone, or somebody else was faster."""
    done = await context.store.accounts.update(account, password, context.clock.now())
    if done is None:
        raise ConflictError("There is an account with this login or address already")
    if not done:
        return False
    if user != UserChange(external_id=account.external_id):
        _, rows = await context.store.users.put_many(account.app_id, [user])
        await context.index.take_in(users=rows)
    return True
