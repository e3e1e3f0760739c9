"""The catalogue: messages to many, of the apps that are asked for, and their recipients, in memory within bounds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pushd.bitset import PART_BITS, Bitset, Devices
from pushd.clock import Clock
from pushd.config.inbox import InboxConfig
from pushd.store.in_app import InAppStore
from pushd.store.in_app_rows import Message, PartKey, batch

PARTS_AT_ONCE = 32
"""Parts of up to 128 KB that are read at a stretch, 1 to 2 ms."""
PART_BYTES_MIN = 256
"""What a part takes beside its containers."""


class Reader(NamedTuple):
    """Whose inbox it is: a user's, or an install's, which has its user's messages and those from when it had none."""

    app_id: int
    user: int
    """0: nobody."""
    install: int
    """0: it is asked for as a user."""
    devices: Devices
    """Of the install."""

    @property
    def recipients(self) -> list[int]:
        """What stands for the reader in letters and states."""
        return [each for each in (self.user, -self.install) if each]


class Addressed(NamedTuple):
    """A message that a reader got."""

    message: Message
    """The release by which it came."""
    recipient: int
    """As whom: the number of the user, or minus the install's."""
    batch: int
    """In which of the release's batches."""


class _Shelf:
    """Releases of messages of one app, newest first."""

    __slots__ = ("messages", "nbytes", "sorted")

    def __init__(self, messages: Iterable[Message]) -> None:
        self.messages = {(message.id, message.release): message for message in messages}
        self.nbytes = sum(message.nbytes for message in self.messages.values())
        self.sorted = self._sort()

    def put(self, messages: Iterable[Message], gone: Iterable[Message]) -> None:
        """Takes in what became of some."""
        for message in gone:
            self.messages.pop((message.id, message.release), None)
        self.messages.update(((message.id, message.release), message) for message in messages)
        self.nbytes = sum(message.nbytes for message in self.messages.values())
        self.sorted = self._sort()

    def _sort(self) -> list[Message]:
        return sorted(self.messages.values(), key=lambda message: (-message.id, message.release))


class Catalogue:
    """Messages to many, by app. An app is read when it is first asked for; then the change feed keeps it true."""

    def __init__(self, store: InAppStore, config: InboxConfig, clock: Clock) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._shelves: OrderedDict[int, _Shelf] = OrderedDict()
        self._shelf_bytes = 0
        self._parts: OrderedDict[PartKey, Bitset] = OrderedDict()
        self._part_bytes = 0
        # Whoever reads an app's messages or their recipients from the store: others wait, and find them here.
        self._locks: dict[int, asyncio.Lock] = {}
        self.woken = asyncio.Event()
        """Set when something is left for the background: a message waits for its time, or its push for room."""

    async def live(self, app_id: int) -> Sequence[Message]:
        """Messages to many that the app shows now, newest first, and those withdrawn of late."""
        shelf = self._shelves.get(app_id)
        if shelf is None:
            async with self._lock(app_id):
                shelf = self._shelves.get(app_id) or self._put(app_id, await self._store.live(app_id))
        else:
            self._shelves.move_to_end(app_id)
        now = self._clock.now()
        return [message for message in shelf.sorted if self._shown(message, now)]

    async def addressed(self, reader: Reader, messages: Sequence[Message]) -> Mapping[int, Addressed]:
        """By message, for those that the reader got, by which release, and as whom: the user's come first."""
        places = _places(reader)
        many = [message for message in messages if message.letters is None]
        wanted = [(PartKey(message.id, message.release, *place), message) for message in many for place in places]
        parts = await self._load(reader.app_id, wanted)
        found: dict[int, Addressed] = {}
        for message in messages:
            if message.id in found and found[message.id].recipient > 0:
                continue
            one = _in_letters(reader, message) if message.letters is not None else _in_parts(reader, message, parts)
            if one is not None and (one.recipient > 0 or message.id not in found):
                found[message.id] = one
        return found

    async def find(self, app_id: int, ids: Iterable[int]) -> Sequence[Message]:
        """The releases of those of these messages that the app has released; bodies may be missing."""
        wanted = dict.fromkeys(ids)
        shelf = self._shelves.get(app_id)
        known = [] if shelf is None else [shelf.messages[each, 0] for each in wanted if (each, 0) in shelf.messages]
        here = {each.id for each in known}
        if missing := [each for each in wanted if each not in here]:
            known += await self._store.messages(app_id, missing, bodies=False)
        return known

    async def changed(self, app_id: int, ids: Sequence[int]) -> None:
        """Nothing, once messages that were released or changed are known as they are now or later."""
        if app_id not in self._shelves and not self._lock(app_id).locked():
            return
        async with self._lock(app_id):
            if app_id in self._shelves:
                found = [each for each in await self._store.messages(app_id, ids, bodies=True) if each.letters is None]
                shelf = self._shelves.pop(app_id)
                self._shelf_bytes -= shelf.nbytes
                now = self._clock.now()
                over = [each for each in shelf.sorted if not self._shown(each, now)]
                shelf.put(found, over)
                self._keep(app_id, shelf)

    def forget(self, app_ids: Iterable[int]) -> None:
        """Knows nothing of these apps any more, until they are asked for again."""
        for app_id in app_ids:
            shelf = self._shelves.pop(app_id, None)
            self._shelf_bytes -= 0 if shelf is None else shelf.nbytes
            self._locks.pop(app_id, None)

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes of messages, and of recipients, in memory."""
        return self._shelf_bytes, self._part_bytes

    def _lock(self, app_id: int) -> asyncio.Lock:
        return self._locks.setdefault(app_id, asyncio.Lock())

    def _shown(self, message: Message, now: float) -> bool:
        if message.cancelled_at is not None:
            return message.cancelled_at > now - self._config.cancelled_keep_s
        return message.ends_at > now

    def _put(self, app_id: int, messages: Sequence[Message]) -> _Shelf:
        shelf = _Shelf(messages)
        self._keep(app_id, shelf)
        return shelf

    def _keep(self, app_id: int, shelf: _Shelf) -> None:
        self._shelves[app_id] = shelf
        self._shelf_bytes += shelf.nbytes
        while self._shelf_bytes > self._config.cached_bytes_max and len(self._shelves) > 1:
            _, oldest = self._shelves.popitem(last=False)
            self._shelf_bytes -= oldest.nbytes

    async def _load(self, app_id: int, wanted: Sequence[tuple[PartKey, Message]]) -> Mapping[PartKey, Bitset]:
        """Parts of recipients, from memory or read now."""
        found = self._known(key for key, _ in wanted)
        if len(found) < len(wanted):
            async with self._lock(app_id):
                found |= self._known(key for key, _ in wanted if key not in found)
                missing = [(key, message.created_at) for key, message in wanted if key not in found]
                for start in range(0, len(missing), PARTS_AT_ONCE):
                    some = missing[start : start + PARTS_AT_ONCE]
                    for (key, _), part in zip(some, await self._store.parts(some), strict=True):
                        found[key] = part
                        self._remember(key, part)
        return found

    def _known(self, keys: Iterable[PartKey]) -> dict[PartKey, Bitset]:
        known = {}
        for key in keys:
            part = self._parts.get(key)
            if part is not None:
                self._parts.move_to_end(key)
                known[key] = part
        return known

    def _remember(self, key: PartKey, part: Bitset) -> None:
        self._parts[key] = part
        self._part_bytes += PART_BYTES_MIN + part.nbytes
        while self._part_bytes > self._config.cached_bitmap_bytes_max:
            _, oldest = self._parts.popitem(last=False)
            self._part_bytes -= PART_BYTES_MIN + oldest.nbytes


def _places(reader: Reader) -> list[tuple[bool, int]]:
    """The parts that a reader may be in, of users or of devices."""
    users = [(True, reader.user >> PART_BITS)] if reader.user else []
    return users + [(False, part) for part in sorted({device >> PART_BITS for device in reader.devices})]


def _in_letters(reader: Reader, message: Message) -> Addressed | None:
    letters = message.letters or ()
    for each in reader.recipients:
        if each in letters:
            place = letters.index(each) if message.batches > 1 else 0
            return Addressed(message, each, batch(place, len(letters), message.batches))
    return None


def _in_parts(reader: Reader, message: Message, parts: Mapping[PartKey, Bitset]) -> Addressed | None:
    if reader.user:
        part = parts[PartKey(message.id, message.release, True, reader.user >> PART_BITS)]
        if reader.user in part:
            return Addressed(message, reader.user, _batch(message, part, reader.user))
    for device in reader.devices:
        part = parts[PartKey(message.id, message.release, False, device >> PART_BITS)]
        if device in part:
            return Addressed(message, -reader.install, _batch(message, part, device))
    return None


def _batch(message: Message, part: Bitset, number: int) -> int:
    return batch(part.rank(number) - 1, len(part), message.batches) if message.batches > 1 else 0
