"""Inboxes: what a user or an install has, what is unread, and what was done with it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct

from pushd.bitset import Devices
from pushd.commands.context import Context
from pushd.commands.inbox_readers import Person, differs
from pushd.content.in_app import Document
from pushd.errors import NotFoundError
from pushd.inbox.catalogue import Reader
from pushd.inbox.times import Times, times
from pushd.model.in_app import InAppBody, InboxEvent, InboxMessage, InboxReport
from pushd.store.in_app_rows import Message
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
    times: Times

    @property
    def id(self) -> int:
        """The message's number."""
        return self.message.message_id if isinstance(self.message, Letter) else self.message.id

    @property
    def updated_at(self) -> float:
        """When the message, or what was done with it, last changed."""
        return max(self.message.updated_at, self.times.released_at, self.state.updated_at or 0.0)

    def in_inbox(self, now: float) -> bool:
        """Whether it stands in the inbox now."""
        opens = self.times.inbox_from
        return (
            opens is not None
            and opens <= now < (self.times.inbox_to or 0.0)
            and self.message.cancelled_at is None
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
    reader = await _reader(context, app_id, owner)
    entries = [each for each in await _entries(context, app_id, reader) if each.id < before]
    if inbox:
        entries = [each for each in entries if each.in_inbox(now)]
    if after is not None:
        entries = [each for each in entries if each.updated_at > after]
    else:
        entries = [each for each in entries if each.message.cancelled_at is None and each.state.deleted_at is None]
    shown = entries[:limit]
    await _read_bodies(context, app_id, shown)
    messages = await _messages(context, reader, owner, shown)
    return messages, [each.id for each in shown if each.body is not None], len(entries) > limit


async def get(context: Context, app_id: int, owner: Owner, message_id: int) -> InboxMessage:
    """The message as its recipient has it. NotFoundError: also where it is withdrawn, deleted or over."""
    reader = await _reader(context, app_id, owner)
    for each in await _entries(context, app_id, reader):
        if each.id == message_id and each.message.cancelled_at is None and each.state.deleted_at is None:
            await _read_bodies(context, app_id, [each])
            for message in await _messages(context, reader, owner, [each]):
                return message
    raise NotFoundError("There is no such message in this inbox")


async def badge(context: Context, app_id: int, owner: Owner) -> Badge:
    """How many messages stand in the inbox now, and how many of them are unread. NotFoundError."""
    now = context.clock.now()
    entries = [
        each for each in await _entries(context, app_id, await _reader(context, app_id, owner)) if each.in_inbox(now)
    ]
    return Badge(unread=sum(each.unread for each in entries), total=len(entries))


async def mark_read(context: Context, app_id: int, owner: Owner) -> MarkedRead:
    """How many messages that stand in the inbox now were unread; they are read from now on. NotFoundError."""
    now = context.clock.now()
    unread = [
        each
        for each in await _entries(context, app_id, await _reader(context, app_id, owner))
        if each.in_inbox(now) and each.unread
    ]
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
    found = await context.inbox.find(app_id, dict.fromkeys(each.message_id for each in reports))
    now = context.clock.now()
    got = {
        number: (each, times(each.message, each.batch))
        for number, each in (await context.inbox.addressed(reader, found)).items()
    }
    done: dict[int, Done] = {}
    known = 0
    for each in reports:
        letter, own = got.get(each.message_id, (None, None))
        if letter is None or own is None or own.released_at > now:
            continue
        known += 1
        message = letter.message
        entry = done.get(message.id) or done.setdefault(
            message.id, Done(letter.recipient, message.id, message.created_at, {})
        )
        at = now if each.at is None else max(own.released_at, min(each.at, now))
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


async def _entries(context: Context, app_id: int, reader: Reader) -> list[Entry]:
    """Everything that the reader has, newest first; nothing where no in-app messages are taken."""
    if not reader.recipients:
        return []
    now = context.clock.now()
    live = await context.inbox.live(app_id)
    many = (await context.inbox.addressed(reader, live)).values()
    letters, states = await context.store.inboxes.find(
        app_id,
        reader.recipients,
        [(each.message.id, each.recipient, each.message.created_at) for each in many],
        now,
        context.config.inbox.letters_max,
    )
    entries = [
        Entry(
            each.message,
            each.recipient,
            states.get((each.message.id, each.recipient), _UNTOUCHED),
            each.message.body,
            times(each.message, each.batch),
        )
        for each in many
    ]
    if letters:
        # One that reached both a user and an install of his, from when it had no user, is the user's.
        own = {each.message_id: each for each in sorted(letters, key=attrgetter("recipient"))}
        by_id = {each.id: each for each in entries}
        for number, each in own.items():
            other = by_id.get(number)
            if (each.ends_at > now or each.cancelled_at is not None) and (other is None or other.recipient < 0):
                state = states.get((number, each.recipient), _UNTOUCHED)
                by_id[number] = Entry(each, each.recipient, state, None, times(each, each.batch))
        entries = sorted(by_id.values(), key=lambda each: -each.id)
    return [
        each
        for each in entries
        if each.times.released_at <= now and (each.times.ends_at > now or each.message.cancelled_at is not None)
    ]


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


async def _messages(context: Context, reader: Reader, owner: Owner, entries: Sequence[Entry]) -> list[InboxMessage]:
    """What these say to their reader; one whose texts fail for him is left out, and its entry has no body then."""
    made: list[InboxMessage] = []
    person: Person | None = None
    for each in entries:
        if each.body is None:
            continue
        said = None
        if differs(each.body):
            person = person or Person(context, reader, owner.user_id)
            said = await person.document(each.body, each.message if isinstance(each.message, Message) else None)
            if said is None:
                each.body = None
                continue
        made.append(_message(each, each.body, said))
    return made


def _message(entry: Entry, body: InAppBody, said: Document | None) -> InboxMessage:
    message, state = entry.message, entry.state
    content: Any = body.content if said is None else said["content"]
    data: Any = body.data if said is None else said["data"]
    return InboxMessage(
        id=entry.id,
        presented_when=body.presented_when,
        content=content,
        data=data,
        inbox=body.inbox if said is None else said["inbox"],
        sent_at=entry.times.released_at,
        expires_at=entry.times.expires_at,
        updated_at=entry.updated_at,
        delivered_at=state.delivered_at,
        opened_at=state.opened_at,
        read_at=state.read_at,
        dismissed_at=state.dismissed_at,
        deleted_at=state.deleted_at,
        cancelled_at=message.cancelled_at,
    )
