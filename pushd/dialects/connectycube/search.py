"""ConnectyCube's look-ups of users: by id, login, address, external id or tag, one or in pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from pushd.commands import accounts, apps
from pushd.dialect import Dialect
from pushd.dialects.connectycube import users, wire
from pushd.errors import ForbiddenError, NotFoundError
from pushd.model.account import AccountQuery, Session
from pushd.model.app import Role
from pushd.model.device import ID_MAX
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PER_PAGE, PER_PAGE_MAX, PAGE_MAX = 10, 100, 10_000
NAMES_MAX = 500
"""Values of one field."""
_FIELDS = {
    "id": "user_ids",
    "login": "logins",
    "email": "emails",
    "external_user_id": "external_ids",
    "external_id": "external_ids",
    "user_tags": "tags",
}
"""The fields that are searched by, with what a query calls them."""
_PAGING = frozenset(
    ("limit", "offset", "skip", "sort_asc", "sort_desc", "page", "per_page", "order", "filter", "token")
)
_SORTED = frozenset(("id", "created_at"))
"""What users can be sorted by: numeric ids ascend with time."""
_ONE_OF = frozenset(("in", "eq", "any"))


async def show_v2(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/v2: `login=a`, `login[in][]=a`; with `limit` and `offset`."""
    own, given = await _searcher(cube, incoming), _query(incoming)
    asked = {name: value for name, value in given.items() if name not in _PAGING}
    conditions = {name: _values(name, value) for name, value in asked.items()}
    limit = min(max(wire.number(given.get("limit"), "limit") or PER_PAGE_MAX, 1), PER_PAGE_MAX)
    offset = max(wire.number(given.get("offset") or given.get("skip"), "offset") or 0, 0)
    if offset > PAGE_MAX * PER_PAGE_MAX:
        raise wire.wrong("offset", "is too large")
    descending, by = given.get("sort_desc") is not None, given.get("sort_desc") or given.get("sort_asc") or "id"
    items, total = await _found(cube, own, conditions, by, offset, limit, descending=descending)
    return wire.told({"limit": limit, "skip": offset, "total_entries": total, "items": items})


async def show_page(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users: with `filter[]=number id in 1,2`, `order=desc date created_at`, `page` and `per_page`."""
    own, given = await _searcher(cube, incoming), _query(incoming)
    filters = given.get("filter") or []
    conditions: dict[str, list[str]] = {}
    for each in filters if isinstance(filters, list) else [filters]:
        _, _, rest = wire.text(each).partition(" ")
        field, _, rest = rest.partition(" ")
        operator, _, value = rest.partition(" ")
        if operator not in _ONE_OF:
            raise wire.wrong("filter", f"has an operator that is none of {', '.join(sorted(_ONE_OF))}")
        conditions[field] = _values(field, value)
    order = wire.text(given.get("order")).split()
    return await _paged(cube, own, given, conditions, order)


async def show_tagged(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/by_tags: those with one of `tags`."""
    own, given = await _searcher(cube, incoming), _query(incoming)
    return await _paged(cube, own, given, {"user_tags": _values("user_tags", given.get("tags"))}, [])


async def show_by_login(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/by_login."""
    return await _one(cube, await _searcher(cube, incoming), "login", _query(incoming).get("login"))


async def show_by_email(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/by_email."""
    return await _one(cube, await _searcher(cube, incoming), "email", _query(incoming).get("email"))


async def show_external(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /users/external/{id}."""
    said = unquote(incoming.path_values[0]).removesuffix(".json")
    return await _one(cube, await _searcher(cube, incoming), "external_user_id", said)


async def _searcher(cube: Dialect, incoming: Incoming) -> Session:
    """Who may look others up: servers, and users of apps that let them. ForbiddenError."""
    own = await wire.session(cube, incoming)
    if own.role is Role.DEVICE:
        await wire.account(cube, own)
        if not (await apps.get(cube.context, own.app_id)).settings.client_user_search:
            raise ForbiddenError("Forbidden. Users of this application do not search for others.")
    return own


def _query(incoming: Incoming) -> dict[str, Any]:
    return wire.parse(incoming.raw_query.encode("utf-8", "replace"), is_form=True)


def _values(field: str, value: Any) -> list[str]:
    """The values of a condition, one of which is to hold; InvalidRequestError."""
    if field not in _FIELDS:
        raise wire.wrong(field or "filter", "is not searched by here")
    if isinstance(value, dict):
        if len(value) != 1 or not value.keys() <= _ONE_OF:
            raise wire.wrong(field, f"has an operator that is none of {', '.join(sorted(_ONE_OF))}")
        (value,) = value.values()
    found = wire.names(value, field)
    if not 0 < len(found) <= NAMES_MAX:
        raise wire.wrong(field, f"should have 1 to {NAMES_MAX} values")
    return found


async def _found(
    cube: Dialect,
    own: Session,
    conditions: dict[str, list[str]],
    by: Any,
    offset: int,
    limit: int,
    *,
    descending: bool,
) -> tuple[list[dict[str, Any]], int]:
    """Users as they are told, and how many there are."""
    if wire.text(by) not in _SORTED:
        raise wire.wrong("order", f"is by none of {', '.join(sorted(_SORTED))}")
    wanted: dict[str, Any] = {}
    for field, values in conditions.items():
        if field == "id":
            wanted["user_ids"] = [each for value in values if 0 < (each := wire.number(value, "id") or 0) <= ID_MAX]
        else:
            wanted[_FIELDS[field]] = values
    query = AccountQuery(**wanted, newest_first=descending)
    page = await accounts.find(cube.context, own.app_id, query, offset=offset, limit=limit)
    return [
        users.told(account, tags, whole=own.role is Role.SERVER or account.user_id == own.user_id)
        for account, tags in page.accounts
    ], page.total


async def _paged(
    cube: Dialect, own: Session, given: dict[str, Any], conditions: dict[str, list[str]], order: list[str]
) -> Answer:
    number = min(max(wire.number(given.get("page"), "page") or 1, 1), PAGE_MAX)
    size = min(max(wire.number(given.get("per_page"), "per_page") or PER_PAGE, 1), PER_PAGE_MAX)
    by = order[-1] if order else "created_at"
    descending = not order or order[0] == "desc"
    at = (number - 1) * size
    items, total = await _found(cube, own, conditions, by, at, size, descending=descending)
    told = {"current_page": number, "per_page": size, "total_entries": total}
    return wire.told({**told, "items": [{"user": each} for each in items]})


async def _one(cube: Dialect, own: Session, field: str, value: Any) -> Answer:
    items, _ = await _found(cube, own, {field: _values(field, [value])}, "id", 0, 1, descending=False)
    if not items:
        raise NotFoundError("User not found")
    return wire.told({"user": items[0]})
