"""Inboxes: what a user or an install has, what is unread, and what was done with it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct

from pushd.bitset import Devices
from pushd.commands.context import Context
from pushd.errors import NotFoundError
from pushd.inbox.catalogue import Reader
from pushd.model.in_app import InAppBody, InboxEvent, InboxMessage, InboxReport
from pushd.store.in_app import Message
from pushd.store.inboxes import Done, Letter, State
from pushd.telemetry import IN_APP_EVENTS

_UNTOUCHED = State()


class Owner(Struct, frozen=True):
    """Whose inbox is meant: one of both."""

    install_id: str | None = None
    user_id: str | None = None


class Badge(Struct, frozen=True, kw_only=True):
    """What an inbox holds now."""

    unread: int
    """Neither read nor opened."""
    total: int


class InboxReports(Struct, frozen=True, kw_only=True):
    """What became of the reports of one request."""

    taken: int
    """New, and kept from now on."""
    repeated: int
    """Reported before: the first time counts."""
    unknown: int
    """About a message that this inbox does not have."""


class MarkedRead(Struct, frozen=True, kw_only=True):
    """How many messages of an inbox were unread, and are read now."""

    marked: int


class Entry(Struct, eq=False):
    """One message of one reader."""

    message: Message | Letter
    recipient: int
    state: State
    body: InAppBody | None

    @property
    def id(self) -> int:
        """The message's number."""
        return self.message.message_id if isinstance(self.message, Letter) else self.message.id

    @property
    def updated_at(self) -> float:
        """When the message, or what was done with it, last changed."""
        return max(self.message.updated_at, self.state.updated_at or 0.0)

    def in_inbox(self, now: float) -> bool:
        """Whether it stands in the inbox now."""
        message = self.message
        return (
            message.inbox_from is not None
            and message.inbox_from <= now < (message.inbox_to or 0.0)
            and message.cancelled_at is None
            and self.state.deleted_at is None
        )

    @property
    def unread(self) -> bool:
        """Whether it was neither read nor opened."""
        return self.state.read_at is None and self.state.opened_at is None


async def page(
    context: Context, app_id: int, owner: Owner, *, after: float | None, inbox: bool, before: int, limit: int
) -> tuple[list[InboxMessage], list[int], bool]:
    """Messages with ids below `before`, newest first, their positions, and whether there are more.

    Those that can be presented or stand in the inbox, now or later; with `inbox` only what stands there now. `after`:
    only what changed since then, and then also what was deleted or withdrawn. NotFoundError: there is no such owner.
    """
    now = context.clock.now()
    entries = [each for each in await _entries(context, app_id, owner) if each.id < before]
    if inbox:
        entries = [each for each in entries if each.in_inbox(now)]
    if after is not None:
        entries = [each for each in entries if each.updated_at > after]
    else:
        entries = [each for each in entries if each.message.cancelled_at is None and each.state.deleted_at is None]
    shown = entries[:limit]
    await _read_bodies(context, app_id, shown)
    messages = [_message(each, each.body) for each in shown if each.body is not None]
    return messages, [each.id for each in shown], len(entries) > limit


async def get(context: Context, app_id: int, owner: Owner, message_id: int) -> InboxMessage:
    """The message as its recipient has it. NotFoundError: also where it is withdrawn, deleted or over."""
    for each in await _entries(context, app_id, owner):
        if each.id == message_id and each.message.cancelled_at is None and each.state.deleted_at is None:
            await _read_bodies(context, app_id, [each])
            if each.body is not None:
                return _message(each, each.body)
    raise NotFoundError("There is no such message in this inbox")


async def badge(context: Context, app_id: int, owner: Owner) -> Badge:
    """How many messages stand in the inbox now, and how many of them are unread. NotFoundError."""
    now = context.clock.now()
    entries = [each for each in await _entries(context, app_id, owner) if each.in_inbox(now)]
    return Badge(unread=sum(each.unread for each in entries), total=len(entries))


async def mark_read(context: Context, app_id: int, owner: Owner) -> MarkedRead:
    """How many messages that stand in the inbox now were unread; they are read from now on. NotFoundError."""
    now = context.clock.now()
    unread = [each for each in await _entries(context, app_id, owner) if each.in_inbox(now) and each.unread]
    done = [Done(each.recipient, each.id, each.message.created_at, {InboxEvent.READ: now}) for each in unread]
    bits = await context.store.inboxes.done(done)
    return MarkedRead(marked=sum(1 for new in bits if new > 0))


async def report(
    context: Context, app_id: int, owner: Owner, reports: Sequence[InboxReport], *, device_key: int | None = None
) -> InboxReports:
    """What became of the reports of one inbox, once it is committed. NotFoundError; UnavailableError: again.

    Those by a device key (its id) count against that key's limit, as receipts do: TooManyRequestsError.
    """
    if device_key is not None:
        context.limits.admit_key(device_key, len(reports), context.clock.monotonic())
    reader = await _reader(context, app_id, owner, late=True)
    messages = await context.inbox.find(app_id, dict.fromkeys(each.message_id for each in reports))
    recipients = await context.inbox.addressed(reader, list(messages.values()))
    now = context.clock.now()
    done: dict[int, Done] = {}
    known = 0
    for each in reports:
        recipient = recipients.get(each.message_id)
        if recipient is None:
            continue
        known += 1
        message = messages[each.message_id]
        entry = done.get(message.id) or done.setdefault(message.id, Done(recipient, message.id, message.created_at, {}))
        at = now if each.at is None else max(message.released_at, min(each.at, now))
        assert isinstance(entry.times, dict)
        entry.times.setdefault(each.event, at)
    bits = await context.store.inboxes.done(list(done.values()))
    gone = {each.message_id for each, new in zip(done.values(), bits, strict=True) if new < 0}
    unknown = len(reports) - known + sum(1 for each in reports if each.message_id in gone)
    taken = sum(new.bit_count() for new in bits if new > 0)
    counts = InboxReports(taken=taken, repeated=len(reports) - unknown - taken, unknown=unknown)
    for name in counts.__struct_fields__:
        IN_APP_EVENTS.labels(name).inc(getattr(counts, name))
    return counts


async def _entries(context: Context, app_id: int, owner: Owner) -> list[Entry]:
    """Everything that the owner has, newest first; nothing where no in-app messages are taken."""
    reader = await _reader(context, app_id, owner)
    if not reader.recipients:
        return []
    now = context.clock.now()
    live = await context.inbox.live(app_id)
    recipients = await context.inbox.addressed(reader, live)
    many = [message for message in live if message.id in recipients]
    letters, states = await context.store.inboxes.find(
        app_id,
        reader.recipients,
        [(message.id, recipients[message.id], message.created_at) for message in many],
        now,
        context.config.inbox.letters_max,
    )
    entries = [
        Entry(each, recipients[each.id], states.get((each.id, recipients[each.id]), _UNTOUCHED), each.body)
        for each in many
    ]
    if letters:
        # One that reached both a user and an install of his, from when it had no user, is the user's.
        own = {each.message_id: each for each in sorted(letters, key=attrgetter("recipient"))}
        entries += [
            Entry(each, each.recipient, states.get((number, each.recipient), _UNTOUCHED), None)
            for number, each in own.items()
            if each.ends_at > now or each.cancelled_at is not None
        ]
        entries.sort(key=lambda each: -each.id)
    return entries


async def _reader(context: Context, app_id: int, owner: Owner, *, late: bool = False) -> Reader:
    """Who asks; without recipients where no in-app messages are taken, unless it is `late`, about earlier ones.

    NotFoundError.
    """
    if owner.user_id is not None:
        user = context.index.user_number(app_id, owner.user_id)
        if not user:
            raise NotFoundError("There is no such user")
        consents = late or context.index.takes_in_app(app_id, user)
        return Reader(app_id, user if consents else 0, 0, Devices())
    assert owner.install_id is not None
    found = None if "\0" in owner.install_id else await context.store.inboxes.install(app_id, owner.install_id)
    if found is None:
        raise NotFoundError("There is no such install")
    if not (late or found.consents):
        return Reader(app_id, 0, 0, Devices())
    return Reader(app_id, found.user, found.install, found.devices)


async def _read_bodies(context: Context, app_id: int, entries: Sequence[Entry]) -> None:
    """Reads what messages to few say."""
    missing = {each.id: each for each in entries if each.body is None}
    if missing:
        for message in await context.store.in_app.messages(app_id, list(missing), bodies=True):
            missing[message.id].body = message.body


def _message(entry: Entry, body: InAppBody) -> InboxMessage:
    message, state = entry.message, entry.state
    content: Any = body.content
    data: Any = body.data
    return InboxMessage(
        id=entry.id,
        presented_when=body.presented_when,
        content=content,
        data=data,
        inbox=body.inbox,
        sent_at=message.released_at,
        expires_at=message.expires_at,
        updated_at=entry.updated_at,
        delivered_at=state.delivered_at,
        opened_at=state.opened_at,
        read_at=state.read_at,
        dismissed_at=state.dismissed_at,
        deleted_at=state.deleted_at,
        cancelled_at=message.cancelled_at,
    )
