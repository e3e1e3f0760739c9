"""One line of the API's table: method, path, types, roles, errors and handler; routes and OpenAPI come from it.

A module of the API is a twin of its siblings: parameter structs, one handler per operation, and `OPERATIONS`.

    class OneDevice(Struct, frozen=True):
        device_id: DeviceId                     # in the path template: a path parameter

    class DevicesPage(Page, frozen=True):       # `cursor` and `limit` come from Page
        install_id: Text255 | None = None       # not in the template: a query parameter

    async def show(context: Context, caller: Caller, request: Request[None, OneDevice]) -> Device:
        return await commands.devices.get(context, caller.app, request.params.device_id)

    async def listing(context: Context, caller: Caller, request: Request[None, DevicesPage]) -> Listing[Device]:
        found = await commands.devices.list_page(context, caller.app, after=request.after(0), limit=request.limit, ...)
        return request.listing(found, [device.id for device in found])

    async def register(context: Context, caller: Caller, request: Request[Registration, None]) -> Reply[Device]:
        device, created = await commands.devices.register(context, caller.app, request.body)
        return Reply(device, status=201 if created else 200)

    async def bulk(context: Context, caller: Caller, request: Request[None, None]) -> AsyncIterator[BulkLine]:
        return ...                              # an async generator; errors before its first line are problem answers

    OPERATIONS = (
        Operation(name="getDevice", method="GET", path="/devices/{device_id}", tag="devices", handler=show,
                  summary="One device", params=OneDevice, answer=Device),
        Operation(name="listDevices", method="GET", path="/devices", tag="devices", handler=listing,
                  summary="Devices, oldest first", params=DevicesPage, answer=Listing[Device]),
        Operation(name="registerDevice", method="POST", path="/devices", tag="devices", handler=register,
                  summary="Registers an address", roles=EVERYONE, body=Registration, answer=Device,
                  statuses=(200, 201)),
        Operation(name="registerDevices", method="POST", path="/devices/bulk", tag="devices", handler=bulk,
                  summary="Registers a stream", body_lines=Registration, answer_lines=BulkLine),
        Operation(name="deleteDevice", method="DELETE", path="/devices/{device_id}", tag="devices", handler=delete,
                  summary="Forgets a device", params=OneDevice, statuses=(204,)),       # its handler returns None
    )
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from pushd.errors import PushdError
from pushd.model.app import Role
from pushd.web.caller import Caller

if TYPE_CHECKING:
    from pushd.api.request import Request
    from pushd.commands.context import Context

ADMINS = frozenset({Role.ADMIN})
SERVERS = frozenset({Role.ADMIN, Role.SERVER})
EVERYONE = frozenset({Role.ADMIN, Role.SERVER, Role.DEVICE})

PAGE_LIMIT_MAX = 1000

Item = TypeVar("Item")
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[["Context", Caller, "Request[Any, Any]"], Awaitable[Any]]


class Scope(Enum):
    """What an operation acts on."""

    APP = "app"
    """One app: the key's own, or the one that an admin key names by `Pushd-App`."""
    EITHER = "either"
    """The app, where there is one; the installation, where an admin key names none."""
    INSTALLATION = "installation"
    """The whole installation, whatever app is named."""


class Page(Struct, frozen=True):
    """Parameters of a listing; a listing with filters subclasses it."""

    cursor: Annotated[str, Meta(max_length=1024, description="`next` of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX, description="Items of a page.")] = 100


class Listing(Struct, Generic[Item], frozen=True):
    """One page; `next`, when not null, is the `cursor` of the page after it."""

    items: list[Item]
    next: str | None


@dataclass(frozen=True, slots=True)
class Reply(Generic[Item]):
    """An answer whose status or headers differ from the operation's first status."""

    body: Item
    """The answer, or its JSON as bytes (a stored response that is replayed)."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API. Types are anything that msgspec decodes: structs, unions, lists."""

    name: str
    """operationId, camelCase, unique."""
    method: Method
    path: str
    """Under /pushd/v1, with `{parameters}`."""
    tag: str
    summary: str
    handler: Handler
    """Carries it out: returns the answer, a `Reply`, None (204), or an async iterator where the answer is lines."""
    description: str = ""
    """Markdown, as much as a reader needs."""
    roles: frozenset[Role] = SERVERS
    scope: Scope = Scope.APP
    params: type[Struct] | None = None
    """Path and query parameters; None: there are none."""
    body: Any = None
    """Type of the JSON body; None: there is no body."""
    parse: Callable[[bytes], Any] | None = None
    """Reads the body in place of the strict decoder of its type, where parts of it are refused one by one."""
    body_lines: Any = None
    """Type of each line of an NDJSON body, read by the handler from `request.lines()`."""
    media: frozenset[str] = frozenset()
    """Media types of a body that the handler reads itself, piece by piece, from `request.upload()`."""
    answer: Any = None
    """Type of the JSON answer; None: there is none."""
    answer_lines: Any = None
    """Type of each line of an NDJSON answer."""
    columns: Callable[[Any], tuple[str, ...] | None] | None = None
    """By its parameters, the columns of an answer of lines as CSV; None: lines of JSON are wanted."""
    answer_events: Any = None
    """Type of the data of each event of an answer that is a stream of server-sent events; its handler gives octets."""
    statuses: tuple[int, ...] = (200,)
    """Statuses of success; the first is sent unless a `Reply` says another."""
    errors: tuple[type[PushdError], ...] = ()
    """Errors of its own; those of keys, bodies, parameters and load are added by its shape."""
    idempotent: bool = False
    """Takes an `Idempotency-Key`: see `request.idempotency`."""
    example: Any = None
    """A body, as plain JSON, that the reference shows."""

    def __post_init__(self) -> None:
        fields = set() if self.params is None else set(self.params.__struct_fields__)
        assert set(self.path_params) <= fields, f"{self.name}: the path names a parameter that params lacks"
        assert (self.body is not None) + (self.body_lines is not None) + bool(self.media) <= 1, self.name
        answers = (self.answer, self.answer_lines, self.answer_events)
        assert sum(each is not None for each in answers) <= 1, self.name
        assert self.statuses, self.name

    @property
    def path_params(self) -> tuple[str, ...]:
        """Names of the parameters in the path, in order."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))
