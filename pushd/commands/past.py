"""What an audience asks of the store before it can be resolved: earlier notifications, opens, installs by name."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import numpy as np

from pushd.bitset import Devices
from pushd.commands.context import Context
from pushd.errors import Fault, InvalidRequestError, UnavailableError
from pushd.model.audience import And, Audience, Installs, Not, Opened, Or, Outcome, PreferredKind, TagsSegment
from pushd.model.receipt import OPENING, Event
from pushd.outcome import FAILED
from pushd.outcome import Outcome as Ended
from pushd.store.past import Sent
from pushd.targeting.audiences import check, walk
from pushd.targeting.leaves_past import GATHERED, InstallDevices
from pushd.targeting.scope import each_once

DAY_S = 86_400

_ASKED = (*GATHERED, TagsSegment)
_NODES = (And, Or, Not, PreferredKind)


class Gathered(dict[int, Devices]):
    """Devices by the identity of the leaf that they are the answer to; the leaves live as long as this does."""

    __slots__ = ("audience",)

    def __init__(self, audience: Audience) -> None:
        super().__init__()
        self.audience = audience


def asks(audience: Audience) -> bool:
    """Whether the store has to be asked before the audience can be resolved."""
    if isinstance(audience, _NODES):
        return any(isinstance(node, _ASKED) for node, _, _ in walk(audience, ""))
    return isinstance(audience, _ASKED)


async def gather(context: Context, app_id: int, asked: Audience, audience: Audience) -> Gathered:
    """What the store knows of the leaves of an audience, `asked` with its segments in their places.

    InvalidRequestError where a leaf names a notification or a tag that the app does not have; UnavailableError when it
    takes too long.
    """
    check(asked)
    check(audience)
    config = context.config.store
    try:
        async with asyncio.timeout(config.past_timeout_s):
            return await _Gathering(context, app_id, asked, audience).everything()
    except TimeoutError:
        detail = "What the audience asks of the past takes too long to read now"
        raise UnavailableError(detail, retry_after_s=config.retry_after_s) from None


class _Gathering:
    """One walk through an audience; what several leaves ask for is read once."""

    def __init__(self, context: Context, app_id: int, asked: Audience, audience: Audience) -> None:
        self._past = context.store.past
        self._context = context
        self._app_id = app_id
        self._audience = audience
        # What comes out of a segment is pointed at by the audience as a whole.
        self._places = {id(node): at for node, at, _ in walk(asked, "/audience")}
        self._sent: dict[int, Sent | None] = {}
        self._sets: dict[tuple[int, str], Devices] = {}

    async def everything(self) -> Gathered:
        gathered = Gathered(self._audience)
        for node, _, _ in walk(self._audience, ""):
            if isinstance(node, Outcome):
                gathered[id(node)] = await self._outcome(node)
            elif isinstance(node, Opened):
                now = self._context.clock.now()
                gathered[id(node)] = await self._past.opened_since(self._app_id, now - node.within_days * DAY_S, now)
            elif isinstance(node, Installs):
                gathered[id(node)] = await self._installs(node)
            elif isinstance(node, TagsSegment) and id(node) in self._places:
                await self._check_tags(node)
        return gathered

    async def _outcome(self, leaf: Outcome) -> Devices:
        number = leaf.notification_id
        if number not in self._sent:
            self._sent[number] = await self._past.sent(self._app_id, number)
        sent = self._sent[number]
        if sent is None:
            raise self._fault(leaf, "/notification_id", "names no notification of the app")
        match leaf.is_:
            case "accepted":
                return await self._past.ended(sent, self._codes((Ended.ACCEPTED,)))
            case "failed":
                return await self._past.ended(sent, self._failures(leaf))
            case "clicked":
                clicked = await self._past.reported(sent, [Event.CLICKED], leaf.buttons or None)
                return clicked & await self._targets(sent)
            case "opened":
                return await self._opened(sent) & await self._targets(sent)
            case "not_opened":
                return await self._targets(sent) - await self._opened(sent)
        return await self._targets(sent)

    async def _targets(self, sent: Sent) -> Devices:
        key = (sent.id, "targets")
        if key not in self._sets:
            self._sets[key] = await self._past.targets(sent)
        return self._sets[key]

    async def _opened(self, sent: Sent) -> Devices:
        key = (sent.id, "opened")
        if key not in self._sets:
            self._sets[key] = await self._past.reported(sent, OPENING)
        return self._sets[key]

    def _codes(self, outcomes: Collection[Ended], names: Sequence[str] = ()) -> list[tuple[int, int]]:
        """Gateway numbers and codes with one of these outcomes, and one of these names where given."""
        return [
            (gateway, code)
            for gateway, table in self._context.fanout.reasons.items()
            for code, reason in table.by_code.items()
            if reason.outcome in outcomes and (not names or reason.name in names)
        ]

    def _failures(self, leaf: Outcome) -> list[tuple[int, int]]:
        for at, name in enumerate(leaf.reasons):
            if not self._codes(FAILED, [name]):
                raise self._fault(leaf, f"/reasons/{at}", "is no reason that a send fails for")
        return self._codes(FAILED, leaf.reasons)

    async def _installs(self, leaf: Installs) -> InstallDevices:
        names: list[str] = []
        # Rows, and their devices, name by name.
        columns = [(np.empty(0, np.intp), np.empty(0, np.uint32))]
        for part in each_once(leaf.ids):
            found = await self._past.installs(self._app_id, part)
            rows = np.array([row for row, _ in found], np.intp) + len(names)
            columns.append((rows, np.array([device or 0 for _, device in found], np.uint32)))
            names.extend(part)
            await asyncio.sleep(0)
        rows, devices = (np.concatenate(column) for column in zip(*columns, strict=True))
        answer = InstallDevices.of(devices[devices > 0])
        answer.names = names
        answer.known = np.zeros(len(names), np.bool_)
        answer.known[rows] = True
        answer.rows = rows[devices > 0][np.argsort(devices[devices > 0], kind="stable")]
        return answer

    async def _check_tags(self, leaf: TagsSegment) -> None:
        folded = [element.name.casefold() for element in leaf.elements]
        known = await self._context.store.names.known_tags(self._app_id, folded)
        faults = [
            Fault(f"{self._places[id(leaf)]}/elements/{at}/name", "names no tag of the app")
            for at, name in enumerate(folded)
            if name not in known
        ]
        if faults:
            raise InvalidRequestError("The audience names tags that the app does not have", faults=faults)

    def _fault(self, leaf: Outcome, place: str, detail: str) -> InvalidRequestError:
        at = self._places.get(id(leaf))
        if at is None:  # in a segment
            return InvalidRequestError(
                "A segment of the audience is not valid now", faults=[Fault("/audience", f"{detail}: {place[1:]}")]
            )
        return InvalidRequestError("The audience is not valid", faults=[Fault(at + place, detail)])
