"""Records of an import: channels, users, devices and subscriptions, a line each; checked, and carried out together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pushd.commands import channels
from pushd.commands.context import Context
from pushd.commands.import_effects import Effects
from pushd.commands.import_lines import InvalidLineError, LineFault, bare, checked, fault_of
from pushd.commands.registration import check
from pushd.commands.subscriptions import PushRules
from pushd.commands.text import text_faults
from pushd.errors import ConflictError
from pushd.model.channel import META_BYTES_MAX, NewChannel
from pushd.model.imports import InstallLine, RecordLine, UserLine
from pushd.store.channels import Subscribers

REGISTRATIONS_MAX = 5_000
"""Written by one statement."""
FULL = "has as many channels as one may have"
UNKNOWN_INSTALL = "is no install of the app"

_record = msgspec.json.Decoder(RecordLine).decode


class Found(NamedTuple):
    """The records of some lines."""

    records: list[RecordLine]
    """Their devices as they are stored."""
    numbers: list[int]
    """The line of each record."""
    faults: list[LineFault]


class Wanted(NamedTuple):
    """Who is to be on a channel, or off it."""

    uuid: str
    of: Subscribers
    on: bool
    lines: dict[str, list[int]]
    """By name: of a user, or of an install."""


def records_of(first: int, lines: Sequence[bytes], rules: PushRules) -> Found:
    """The records that stand one a line, the first of which has this number; blank lines are passed over."""
    found = Found([], [], [])
    for number, line in enumerate(lines, first):
        raw = bare(number, line)
        if not raw or raw.isspace():
            continue
        try:
            found.records.append(_checked(_record(raw), rules))
            found.numbers.append(number)
        except InvalidLineError as error:
            found.faults.append(fault_of(number, raw, error))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            found.faults.append(fault_of(number, raw, InvalidLineError(str(error))))
        except RecursionError:
            found.faults.append(fault_of(number, raw, InvalidLineError("is nested too deep")))
    return found


def _checked(record: RecordLine, rules: PushRules) -> RecordLine:
    """The record with devices as they are stored; InvalidLineError names what is wrong by a JSON pointer."""
    if record.user is not None:
        checked(record.user)
    if record.channel is not None:
        faults = text_faults(record.channel)
        if record.channel.uuid is None:
            raise InvalidLineError("/channel/uuid: is missing")
        if record.channel.meta and len(msgspec.json.encode(record.channel.meta)) > META_BYTES_MAX:
            raise InvalidLineError(f"/channel/meta: has more than {META_BYTES_MAX} bytes as JSON")
        if faults:
            raise InvalidLineError(f"/channel{faults[0].pointer}: {faults[0].detail}")
    if record.install is not None:
        if faults := text_faults(record.install):
            raise InvalidLineError(f"/install{faults[0].pointer}: {faults[0].detail}")
        if not set(record.install.subscribe).isdisjoint(record.install.unsubscribe):
            raise InvalidLineError("/install: a channel is in both `subscribe` and `unsubscribe`")
    if not record.devices:
        return record
    devices, bad = check(record.devices, rules)
    if bad:
        row, faults = next(iter(bad.items()))
        raise InvalidLineError(f"/devices/{row}{faults[0].pointer}: {faults[0].detail}")
    return msgspec.structs.replace(record, devices=devices)


def named(records: Iterable[RecordLine]) -> set[str]:
    """The uuids of all channels that somebody is to be on or off."""
    return {uuid for record in records for who in _who(record) for uuid in (*who.subscribe, *who.unsubscribe)}


async def known_channels(
    context: Context, app_id: int, records: Sequence[RecordLine], *, create: bool
) -> tuple[Mapping[str, int], str]:
    """Ids by uuid of the channels that records need, and why others are not there; `create`: made where they are not.

    What is made stays, also where the records come to nothing after all.
    """
    uuids = named(records)
    wanted = {each.channel.uuid: each.channel for each in records if each.channel is not None and each.channel.uuid}
    everything = sorted(uuids | wanted.keys())
    store = context.store.channels
    ids = await store.ids(app_id, everything) if everything else {}
    missing = [uuid for uuid in everything if uuid not in ids and (create or uuid in wanted)]
    why = "there is no channel"
    for uuid in missing:
        try:
            await channels.create(context, app_id, wanted.get(uuid) or NewChannel(uuid=uuid, name=uuid))
        except ConflictError:  # somebody else made it, or there are as many as there may be
            why = "there are as many channels as there may be, and there is no channel"
    return (await store.ids(app_id, everything) if missing else ids), why


def with_channels(found: Found, ids: Mapping[str, int], why: str, effects: Effects) -> Found:
    """The records whose channels are there; the lines of others are noted in `effects`."""
    kept = Found([], [], found.faults)
    for record, line in zip(found.records, found.numbers, strict=True):
        names = [uuid for who in _who(record) for uuid in (*who.subscribe, *who.unsubscribe)]
        if record.channel is not None and record.channel.uuid is not None:
            names.append(record.channel.uuid)
        missing = next((uuid for uuid in names if uuid not in ids), None)
        if missing is None:
            kept.records.append(record)
            kept.numbers.append(line)
        else:
            effects.faults[line] = name_of(record), f"{why} {missing}"
    return kept


async def write(
    context: Context, connection: Any, app_id: int, found: Found, ids: Mapping[str, int], effects: Effects
) -> None:
    """Writes records in a transaction of the caller's: users, then their devices, then who is subscribed."""
    store = context.store
    users = [record.user for record in found.records if record.user is not None]
    if users:
        effects.users.append(await store.users.put_within(connection, app_id, users))
    registrations = [device for record in found.records for device in record.devices]
    for at in range(0, len(registrations), REGISTRATIONS_MAX):
        part = registrations[at : at + REGISTRATIONS_MAX]
        done = await store.devices.register_within(connection, app_id, part, context.clock.now())
        effects.registered.append(done)
    for each in wanted(zip(found.records, found.numbers, strict=True)):
        subscribed = await store.channels.subscribe_within(
            connection, app_id, ids[each.uuid], [*each.lines], of=each.of, on=each.on
        )
        effects.subscribed.append(subscribed)
        effects.refuse_names(UNKNOWN_INSTALL, subscribed.unknown, each.lines)
        effects.refuse_names(f"{FULL}: not subscribed to {each.uuid}", subscribed.full, each.lines)


def wanted(records: Iterable[tuple[RecordLine, int]]) -> list[Wanted]:
    """Who is to be on which channel; what is said last of somebody counts."""
    last: dict[tuple[str, Subscribers, str], tuple[bool, list[int]]] = {}
    for record, line in records:
        for who in _who(record):
            of: Subscribers = "users" if isinstance(who, UserLine) else "installs"
            name = who.external_id if isinstance(who, UserLine) else who.install_id
            for on, uuids in ((True, who.subscribe), (False, who.unsubscribe)):
                for uuid in uuids:
                    before = last.get((uuid, of, name))
                    last[uuid, of, name] = on, [*(before[1] if before is not None else ()), line]
    grouped: dict[tuple[str, Subscribers, bool], dict[str, list[int]]] = defaultdict(dict)
    for (uuid, of, name), (on, lines) in last.items():
        grouped[uuid, of, on][name] = lines
    return [Wanted(uuid, of, on, lines) for (uuid, of, on), lines in grouped.items()]


def name_of(record: RecordLine) -> str:
    """What a record is about, for people."""
    if record.install is not None:
        return record.install.install_id
    if record.devices:
        return record.devices[0].install_id
    if record.user is not None:
        return record.user.external_id
    return (record.channel.uuid or "") if record.channel is not None else ""


def _who(record: RecordLine) -> list[UserLine | InstallLine]:
    return [each for each in (record.user, record.install) if each is not None]
