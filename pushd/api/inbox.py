"""Inboxes over HTTP: /installs/{install_id}/inbox and /users/{external_id}/inbox, and what was done with messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import EVERYONE, SERVERS, Operation, Page
from pushd.api.request import Request
from pushd.commands import inbox
from pushd.commands.context import Context
from pushd.commands.inbox import Badge, InboxReports, MarkedRead, Owner
from pushd.errors import TooManyRequestsError
from pushd.model.app import Role
from pushd.model.device import ID_MAX, Text255
from pushd.model.in_app import EVENTS_MAX, InboxMessage, InboxReport, Instant, MessageId
from pushd.web.caller import Caller

_NEWEST = ID_MAX + 1

After = Annotated[Instant, Meta(description="UNIX seconds: only what changed since; see `as_of`.")]
OnlyInbox = Annotated[bool, Meta(description="Only what stands in the inbox now.")]


class InstallInbox(Struct, frozen=True, kw_only=True):
    """The inbox of an install."""

    install_id: Text255

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(install_id=self.install_id)


class UserInbox(Struct, frozen=True, kw_only=True):
    """The inbox of a user."""

    external_id: Text255

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(user_id=self.external_id)


class InstallMessage(InstallInbox, frozen=True, kw_only=True):
    """A message in the inbox of an install."""

    message_id: MessageId


class UserMessage(UserInbox, frozen=True, kw_only=True):
    """A message in the inbox of a user."""

    message_id: MessageId


class InstallPage(Page, frozen=True, kw_only=True):
    """Which messages of an install to list."""

    install_id: Text255
    after: After | None = None
    inbox: OnlyInbox = False

    @property
    def owner(self) -> Owner:
        """Whose they are."""
        return Owner(install_id=self.install_id)


class UserPage(Page, frozen=True, kw_only=True):
    """Which messages of a user to list."""

    external_id: Text255
    after: After | None = None
    inbox: OnlyInbox = False

    @property
    def owner(self) -> Owner:
        """Whose they are."""
        return Owner(user_id=self.external_id)


class InboxPage(Struct, frozen=True):
    """Messages of an inbox, newest first."""

    items: list[InboxMessage]
    next: str | None
    """When not null, the `cursor` of the page after it."""
    as_of: float
    """UNIX seconds to ask with as `after` next time: a little before now, so that nothing is missed."""


class InboxEvents(Struct, frozen=True, forbid_unknown_fields=True):
    """What was done with messages of an inbox."""

    events: Annotated[list[InboxReport], Meta(min_length=1, max_length=EVENTS_MAX)]


async def listing(context: Context, caller: Caller, request: Request[None, InstallPage | UserPage]) -> InboxPage:
    """GET …/inbox."""
    params, as_of = request.params, context.clock.now() - context.config.inbox.overlap_s
    messages, positions, more = await inbox.page(
        context,
        caller.app,
        params.owner,
        after=params.after,
        inbox=params.inbox,
        before=request.after(_NEWEST),
        limit=request.limit,
    )
    following = request.listing(positions, positions, more=True).next if more else None
    return InboxPage(items=messages, next=following, as_of=as_of)


async def show(context: Context, caller: Caller, request: Request[None, InstallMessage | UserMessage]) -> InboxMessage:
    """GET …/inbox/{message_id}."""
    return await inbox.get(context, caller.app, request.params.owner, request.params.message_id)


async def badge(context: Context, caller: Caller, request: Request[None, InstallInbox | UserInbox]) -> Badge:
    """GET …/inbox/badge."""
    return await inbox.badge(context, caller.app, request.params.owner)


async def mark_read(context: Context, caller: Caller, request: Request[None, InstallInbox | UserInbox]) -> MarkedRead:
    """POST …/inbox/read."""
    return await inbox.mark_read(context, caller.app, request.params.owner)


async def report(
    context: Context, caller: Caller, request: Request[InboxEvents, InstallInbox | UserInbox]
) -> InboxReports:
    """POST …/inbox/events."""
    device_key = caller.key.id if caller.role is Role.DEVICE else None
    return await inbox.report(context, caller.app, request.params.owner, request.body.events, device_key=device_key)


@dataclass(frozen=True, slots=True)
class _Inboxes:
    """Inboxes of installs, or of users: both are served alike."""

    whose: str
    of: str
    path: str
    roles: frozenset[Role]
    page: type[Struct]
    owner: type[Struct]
    message: type[Struct]

    def operations(self) -> tuple[Operation, ...]:
        """What can be done with them."""
        return (
            Operation(
                name=f"list{self.whose}Inbox",
                method="GET",
                path=self.path,
                tag="inbox",
                summary=f"The in-app messages of {self.of}, newest first",
                description="With `after` only what changed since then, and then also what was deleted or withdrawn.",
                handler=listing,
                roles=self.roles,
                params=self.page,
                answer=InboxPage,
            ),
            Operation(
                name=f"get{self.whose}InboxBadge",
                method="GET",
                path=f"{self.path}/badge",
                tag="inbox",
                summary=f"How many messages stand in the inbox of {self.of}, and how many are unread",
                handler=badge,
                roles=self.roles,
                params=self.owner,
                answer=Badge,
            ),
            Operation(
                name=f"get{self.whose}InboxMessage",
                method="GET",
                path=f"{self.path}/{{message_id}}",
                tag="inbox",
                summary=f"One in-app message of {self.of}",
                handler=show,
                roles=self.roles,
                params=self.message,
                answer=InboxMessage,
            ),
            *self._reports(),
        )

    def _reports(self) -> tuple[Operation, ...]:
        return (
            Operation(
                name=f"mark{self.whose}InboxRead",
                method="POST",
                path=f"{self.path}/read",
                tag="inbox",
                summary=f"Marks all that stands in the inbox of {self.of} as read",
                handler=mark_read,
                roles=self.roles,
                params=self.owner,
                answer=MarkedRead,
            ),
            Operation(
                name=f"report{self.whose}InboxEvents",
                method="POST",
                path=f"{self.path}/events",
                tag="inbox",
                summary=f"Takes what {self.of} did with in-app messages",
                description="Delivered, opened, read, dismissed, deleted: the first report of each counts, so that a "
                "batch can be sent again until it is answered. What names a message that the inbox does not have is "
                "passed over.",
                handler=report,
                roles=self.roles,
                params=self.owner,
                body=InboxEvents,
                answer=InboxReports,
                errors=(TooManyRequestsError,),
                example={
                    "events": [
                        {"message_id": 17, "event": "opened", "at": 1795277000.25},
                        {"message_id": 16, "event": "deleted"},
                    ]
                },
            ),
        )


INSTALLS = _Inboxes(
    *("Install", "an install", "/installs/{install_id}/inbox", EVERYONE),
    *(InstallPage, InstallInbox, InstallMessage),
)
USERS = _Inboxes("User", "a user", "/users/{external_id}/inbox", SERVERS, UserPage, UserInbox, UserMessage)
OPERATIONS = (*INSTALLS.operations(), *USERS.operations())
