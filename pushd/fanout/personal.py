"""Personal payloads of a campaign: a column for each batch, joined where the message could be cut, else rendered.

A batch's rows are grouped by the variant of their locale. What a variant reads becomes columns of texts by source, one
look-up in the index for each; the cut payload is joined around them. Rows for which that could say something else than
the renderer (an empty title, a payload near the limit) are rendered one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pushd.batch import Bodies, Rendered
from pushd.content.check import link_faults
from pushd.content.liquid import FAILURES, Budget, Liquid, Lookup, TemplateError, parse, text_of
from pushd.content.personal import Script, badge_of
from pushd.content.platforms import render
from pushd.content.segments import Segments, compiled
from pushd.content.texts import link
from pushd.errors import InvalidRequestError
from pushd.fanout.reading import Reading
from pushd.model.app import Settings
from pushd.model.device import GatewayName, Route, Shape
from pushd.model.message import Message
from pushd.model.notification import Notification
from pushd.outcome import TEMPLATE_FAILED, Reason
from pushd.targeting.index import Index
from pushd.targeting.people import People

SLICE_S = 0.006
"""What making the payloads of one batch should take, so that with planning and encoding a turn stays short."""
FIRST_ROWS = 64
"""Rows of the first batch, when it is not known yet what one takes."""
FEW = 24
"""So many first rows of a variant are rendered one by one: cutting a message costs as much as some twenty rows."""
AS_BODIES = frozenset({GatewayName.APNS, GatewayName.FCM})
"""Gateways that know columns of bodies."""
CUTS_MAX = 2
"""Variants that are cut for one batch, about 1.5 ms each."""
KEPT_MAX = 16_384
"""Texts kept of the general gaps of a variant, by what they read."""
ALIKE_MAX = 1_024
"""Payloads kept of a message that shows counts and nothing else of a device, where it cannot be cut."""
GENERAL_ROWS_MAX = 400
"""Rows of a batch with general gaps: behind quick rows, which read what was read before, come some that do not."""


class Made(NamedTuple):
    """The payloads of a batch's rows."""

    ids: NDArray[np.uint32]
    """Rows that have one."""
    payloads: Sequence[Rendered]
    failed: Mapping[int, NDArray[np.uint32]]
    """Rows that have none, by the code of why."""


class Personal:
    """What a personal campaign's payloads on one platform are made by."""

    def __init__(
        self,
        notification: Notification,
        settings: Settings,
        gateway: GatewayName,
        index: Index,
        shape: Shape = Shape.OWN,
    ) -> None:
        self._notification = notification
        self._settings = settings
        self._gateway = gateway
        self._shape = shape
        self._index = index
        self._script = Script(notification.send)
        self._cut: dict[int, _Column | None] = {}
        self._seen: dict[int, int] = {}
        """Rows of variants that are not cut yet."""
        self._alike: dict[tuple[int, int], Rendered | Reason] = {}
        """Where devices differ by variant and count alone: what came out before."""
        self._cuts = 0
        """Variants that were tried to be cut for this batch."""
        self._row_s = SLICE_S / FIRST_ROWS

    @property
    def rows_max(self) -> int:
        """How many rows a batch may have, by what rows took so far."""
        rows = max(1, int(SLICE_S / self._row_s))
        return min(rows, GENERAL_ROWS_MAX) if self._script.is_general else rows

    def column(self, ids: NDArray[np.uint32]) -> Made:
        """The payloads of these devices; those of a row that fails are left out."""
        began, self._cuts = time.thread_time(), 0
        people = self._index.people(self._notification.app_id, ids)
        counts = self._index.badges.of(ids if self._script.is_counted else ids[:0])
        reading = Reading(self._script, people, counts)
        rows: list[bytes | Rendered | Reason] = [b""] * len(ids)
        shared: Rendered | None = None
        for variant, chosen in self._variants(people, len(ids)):
            cut = self._column_of(variant, len(chosen))
            if cut is None:
                for row in chosen:
                    rows[row] = self._one(variant, reading, row)
                continue
            shared = cut.segments.rendered
            for row, body in zip(chosen, self._joined(cut, reading, chosen), strict=True):
                rows[row] = self._one(variant, reading, row) if body is None else body
        made = self._gathered(ids, rows, shared)
        self._row_s = (self._row_s + (time.thread_time() - began) / max(len(ids), 1)) / 2
        return made

    def _joined(self, cut: _Column, reading: Reading, chosen: Sequence[int]) -> Sequence[bytes | None]:
        """The payload of each row; None for rows that have to be rendered: all, where a value of one is a trap."""
        try:
            return cut.join(reading, chosen, self._notification.released_at)
        except FAILURES:
            return [None] * len(chosen)

    def _variants(self, people: People, count: int) -> Iterable[tuple[int, Sequence[int]]]:
        """The rows of each variant."""
        if len(self._script.messages) == 1:
            return [(0, range(count))]
        found: dict[int, list[int]] = {}
        known: dict[str, int] = {}
        for row, locale in enumerate(people.facet("locale")):
            variant = known.get(locale)
            if variant is None:
                variant = known[locale] = self._script.variant(locale)
            found.setdefault(variant, []).append(row)
        return found.items()

    def _column_of(self, variant: int, rows: int) -> _Column | None:
        if variant not in self._cut:
            self._seen[variant] = self._seen.get(variant, 0) + rows
            if self._seen[variant] <= FEW or self._cuts >= CUTS_MAX:
                return None
            self._cuts += 1
            segments = compiled(self._script, variant, self._render, self._gateway)
            self._cut[variant] = None if segments is None else _Column(segments, self._script.messages[variant])
        return self._cut[variant]

    def _render(self, message: Message) -> Rendered | Reason:
        notification = self._notification
        send = msgspec.structs.replace(notification.send, message=message)
        return render(
            self._gateway,
            send,
            self._settings,
            notification_id=notification.id,
            now=notification.released_at,
            shape=self._shape,
        )

    def _one(self, variant: int, reading: Reading, row: int) -> Rendered | Reason:
        """The payload of one row as the renderer makes it."""
        if not self._script.is_counted or self._script.send.liquid:
            return self._rendered(variant, reading, row)
        key = variant, int(reading.counts[row])
        made = self._alike.get(key)
        if made is None:
            made = self._rendered(variant, reading, row)
            if len(self._alike) < ALIKE_MAX:
                self._alike[key] = made
        return made

    def _rendered(self, variant: int, reading: Reading, row: int) -> Rendered | Reason:
        try:
            message = self._script.message(variant, reading.values(row), self._notification.released_at)
        except FAILURES:
            return TEMPLATE_FAILED
        if next(link_faults(message), None) is not None:
            return TEMPLATE_FAILED
        return self._render(message)

    def _gathered(
        self, ids: NDArray[np.uint32], rows: list[bytes | Rendered | Reason], shared: Rendered | None
    ) -> Made:
        """The rows as a column of bodies where they share all else and the gateway knows such, else one by one."""
        failed: dict[int, list[int]] = {}
        for row, each in enumerate(rows):
            if isinstance(each, Reason):
                failed.setdefault(each.code, []).append(row)
        kept = ids
        if failed:
            good = np.ones(len(ids), np.bool_)
            for some in failed.values():
                good[some] = False
            kept = ids[good]
            rows = [each for each in rows if not isinstance(each, Reason)]
        without = {code: ids[some] for code, some in failed.items()}
        bodies = _bodies(rows, shared) if self._gateway in AS_BODIES else None
        if bodies is not None and shared is not None:
            return Made(kept, Bodies(bodies, shared), without)
        whole = []
        for each in rows:
            if isinstance(each, bytes):
                assert shared is not None
                each = replace(shared, payload=each)  # noqa: PLW2901
            assert isinstance(each, Rendered)
            whole.append(each)
        return Made(kept, whole, without)


def personal(notification: Notification, settings: Settings, route: Route, index: Index) -> Personal | Reason:
    """What makes a personal campaign's payloads for a route; the reason where its texts cannot be read any more."""
    try:
        return Personal(notification, settings, route.kind.gateway, index, route.shape)
    except InvalidRequestError:  # they were read when it was accepted: by a pushd whose limits were wider
        return TEMPLATE_FAILED


def _bodies(rows: Sequence[bytes | Rendered | Reason], shared: Rendered | None) -> list[bytes] | None:
    """The bodies of rows that share headers and expiry; None where they do not."""
    if shared is None:
        return None
    bodies = []
    for each in rows:
        if isinstance(each, bytes):
            bodies.append(each)
        elif (
            isinstance(each, Rendered)
            and each.headers == shared.headers
            and each.collapse_id == shared.collapse_id
            and each.expires_at == shared.expires_at
        ):
            bodies.append(each.payload)
        else:
            return None
    return bodies


class _Column:
    """One variant's cut payload, and what its general gaps came to before."""

    def __init__(self, segments: Segments, message: Message) -> None:
        self.segments = segments
        self._message = message
        self._general = {at: parse(source.text) for at, source in enumerate(segments.sources) if source.lookup is None}
        self._kept: dict[int, dict[Any, tuple[str | None, int]]] = {at: {} for at in self._general}
        self._room = KEPT_MAX

    def join(self, reading: Reading, rows: Sequence[int], now: float) -> list[bytes | None]:
        """The payload of each row; None for rows that have to be rendered."""
        apart: set[int] = set()
        columns: list[Sequence[str]] = []
        budgets = [Budget() for _ in rows] if self._general else []
        for at, source in enumerate(self.segments.sources):
            if source.is_badge:
                assert source.lookup is not None
                texts = self._badges(source.lookup, reading, rows, apart)
            elif source.lookup is not None:
                texts = self._looked_up(source.lookup, reading, rows)
            else:
                texts = self._rendered(at, self._general[at], reading, rows, budgets, now, apart)
            columns.append([link(text) for text in texts] if source.is_link else texts)
        for group in self.segments.hollow:
            if all("" in columns[at] for at in group):
                apart.update(row for row in range(len(rows)) if not any(columns[at][row] for at in group))
        bodies: list[bytes | None] = [*self.segments.join(columns, len(rows))]
        most = self.segments.bytes_max
        apart.update(row for row, body in enumerate(bodies) if body is not None and len(body) > most)
        for row in apart:
            bodies[row] = None
        return bodies

    def _looked_up(self, lookup: Lookup, reading: Reading, rows: Sequence[int]) -> list[str]:
        column = reading.column(lookup.path)
        if column is None:
            return [text_of(lookup, reading.shared(lookup.path))] * len(rows)
        known: dict[Any, str] = {}
        out = []
        for row in rows:
            value = column[row]
            if type(value) is str and value:
                out.append(value)
                continue
            if type(value) is int:
                out.append(str(value))
                continue
            key = (type(value), value) if not isinstance(value, list | dict) else None
            text = known.get(key) if key is not None else None
            if text is None:
                text = text_of(lookup, value)
                if key is not None:
                    known[key] = text
            out.append(text)
        return out

    def _badges(self, lookup: Lookup, reading: Reading, rows: Sequence[int], apart: set[int]) -> list[str]:
        """Each row's badge; rows without a number of their own, or with 0, are the renderer's."""
        column, message = reading.column(lookup.path), self._message
        out = []
        for place, row in enumerate(rows):
            value = reading.shared(lookup.path) if column is None else column[row]
            badge = badge_of(message, value)
            if not badge:  # 0 clears, which platforms say in ways of their own
                apart.add(place)
            out.append(str(badge))
        return out

    def _rendered(
        self,
        at: int,
        text: Liquid,
        reading: Reading,
        rows: Sequence[int],
        budgets: Sequence[Budget],
        now: float,
        apart: set[int],
    ) -> list[str]:
        """A general gap in each row; where it reads what it read before, it says what it said before."""
        columns = [column for path in sorted(text.paths) if (column := reading.column(path)) is not None]
        kept = self._kept[at]
        out = []
        for place, row in enumerate(rows):
            key = tuple([_key(column[row]) for column in columns])
            budget = budgets[place]
            if key in kept:
                said, steps = kept[key]
                budget.left -= steps
                if budget.left < 0:
                    said = None
            else:
                left = budget.left
                try:
                    said = text.render(reading.values(row), now, budget)
                except TemplateError:
                    said = None
                if self._room:
                    self._room -= 1
                    kept[key] = said, left - budget.left
            if said is None:
                apart.add(place)  # the renderer says why, or that it can after all
            out.append(said or "")
        return out


def _key(value: Any) -> Any:
    """Something that is the same for the same value, and for no other."""
    if isinstance(value, list | dict):
        return msgspec.json.encode(value)
    return (type(value), value)
