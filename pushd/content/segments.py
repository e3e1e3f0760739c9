"""Payloads of a personal message compiled for speed: what all devices share, around what differs, joined in columns.

A message is rendered once with marks in place of what differs, by the renderer of its platform, and cut at the marks.
A mark begins with a quotation mark: how often that was escaped tells how deep in JSON within JSON the mark stands, and
so how often a value has to be. Whether a message can be cut is then tried out: payloads that were joined of awkward
values have to be, octet for octet, what the renderer makes of them. Where they are not, nothing is compiled.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from protocols import apns, fcm, hms, webpush
from pushd.batch import Rendered
from pushd.content.liquid import Lookup, TemplateError, parse
from pushd.content.personal import Script
from pushd.content.texts import Place, link, replaced
from pushd.model.device import GatewayName
from pushd.model.message import Message

SURE_BYTES: Mapping[GatewayName, int] = {
    GatewayName.APNS: apns.payload_limit("alert"),
    GatewayName.FCM: fcm.PAYLOAD_BYTES_MAX,
    GatewayName.HMS: hms.MESSAGE_BYTES_MAX,
    GatewayName.WEBPUSH: webpush.PLAINTEXT_BYTES_MAX,
}
"""Platforms that messages are compiled for, and how long payloads certainly may be there; longer ones are rendered."""

_MARKS = re.compile(rb'\|(\\+)"([0-9a-f]{16})\.(\d+);|(\d+)')
"""Marks, and numbers that may stand for a badge: one pattern for all, for `re` keeps those that it has made."""
_FIXED_LINK = re.compile(r"https?://[^/\s{}]+/|(?!https?:|javascript:|vbscript:|data:|blob:|file:)[a-z][a-z0-9+.-]*:\S")
"""How a link begins that stays a good one, whatever is put in behind it."""
BADGE_LEAST = 1_000_000_000
"""Marks of badges are random numbers of ten digits from here on."""
_AWKWARD = ('q"\\\n\t', "ünï \u2028 \U0001f600", "/<>&'")
"""Values to try out what was compiled with."""


class Source(NamedTuple):
    """What stands in place of a mark: one value as it is, or a text that is rendered for each device."""

    lookup: Lookup | None
    text: str = ""
    is_link: bool = False
    is_badge: bool = False
    """Whether it is the badge: a number, which stands for itself wherever it is."""


class Slot(NamedTuple):
    """A mark in a payload."""

    source: int
    depth: int
    """How often its value is escaped."""


class Segments(NamedTuple):
    """A payload, cut at its marks."""

    pieces: tuple[bytes, ...]
    """One more than slots: before each, and after the last."""
    slots: tuple[Slot, ...]
    sources: tuple[Source, ...]
    hollow: tuple[tuple[int, ...], ...]
    """The sources of each text that may come out empty: then the renderer decides what becomes of it."""
    rendered: Rendered
    """The headers and the expiry of all."""
    bytes_max: int
    """Longer payloads may be over the platform's limit, in ways that only the renderer knows."""

    def join(self, columns: Sequence[Sequence[str]], rows: int) -> list[bytes]:
        """The payloads of so many rows whose texts are given by source, a column each."""
        parts: list[Any] = [repeat(self.pieces[0], rows)]
        made: dict[Slot, list[bytes]] = {}
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            if slot not in made:
                made[slot] = escaped(columns[slot.source], slot.depth)
            parts += (made[slot], repeat(piece))
        return list(map(b"".join, zip(*parts, strict=False)))


def compiled(
    script: Script, variant: int, render_one: Callable[[Message], Any], gateway: GatewayName
) -> Segments | None:
    """The cut payload of one variant on a platform; None where its payloads have to be rendered one by one.

    `render_one` is what the platform makes of a message.
    """
    limit = SURE_BYTES.get(gateway)
    if limit is None:
        return None
    marked = _Marked(script.messages[variant], script.badge, is_liquid=script.send.liquid)
    if marked.message is None:
        return None
    made = render_one(marked.message)
    if not isinstance(made, Rendered) or any(marked.nonce in value for _, value in made.headers):
        return None
    cut = marked.cut(made.payload)
    if cut is None:
        return None
    pieces, slots = cut
    segments = Segments(pieces, slots, tuple(marked.sources), tuple(marked.hollow), made, limit)
    return segments if _holds(segments, marked, render_one) else None


def escaped(texts: Sequence[str], depth: int) -> list[bytes]:
    """Texts as they stand within a JSON text, or within JSON in a JSON text, and so on."""
    known: dict[str, bytes] = {}
    out = []
    for text in texts:
        found = known.get(text)
        if found is None:
            found = known[text] = _escape(text, depth)
        out.append(found)
    return out


def _escape(text: str, depth: int) -> bytes:
    octets = orjson.dumps(text)[1:-1]
    for _ in range(depth - 1):
        octets = orjson.dumps(octets.decode())[1:-1]
    return octets


class _Marked:
    """A message with marks in place of what differs; `message` is None where it cannot have any."""

    def __init__(self, message: Message, badge: tuple[str, ...] | None, *, is_liquid: bool) -> None:
        self.nonce = secrets.token_hex(8)
        self._badge = str(BADGE_LEAST + secrets.randbelow(BADGE_LEAST))
        self.sources: list[Source] = []
        self.hollow: list[tuple[int, ...]] = []
        self._source = message
        self._impossible = False
        self._is_liquid = is_liquid
        marked = replaced(message, self._mark) if is_liquid else message
        if badge is not None:
            self.sources.append(Source(Lookup(badge), is_badge=True))
            marked = msgspec.structs.replace(marked, badge=int(self._badge), badge_increment=None)
        self.message = None if self._impossible else marked

    def _mark(self, place: Place, text: str) -> str:
        try:
            parsed = parse(text)
        except TemplateError:
            self._impossible = True
            return text
        parts: Sequence[str | Lookup] = parsed.parts or ()
        if place.is_link and not (parts and isinstance(parts[0], str) and _FIXED_LINK.match(parts[0])):
            self._impossible = True
        first = len(self.sources)
        out = ""
        for part in parts:
            if isinstance(part, str):
                out += part
            else:
                self.sources.append(Source(part, is_link=place.is_link))
                out += self._of(len(self.sources) - 1)
        if parsed.parts is None:
            self.sources.append(Source(None, text))
            out = self._of(first)
        if not place.is_free and all(not isinstance(part, str) or not part for part in parts):
            self.hollow.append(tuple(range(first, len(self.sources))))
        return out

    def _of(self, number: int) -> str:
        return f'|"{self.nonce}.{number};'

    def cut(self, payload: bytes) -> tuple[tuple[bytes, ...], tuple[Slot, ...]] | None:
        """Pieces and slots; None where a mark did not stay whole."""
        pieces, slots, at = [], [], 0
        nonce, badge = self.nonce.encode(), self._badge.encode()
        for found in _MARKS.finditer(payload):
            if found[2] != nonce and found[4] != badge:
                continue
            pieces.append(payload[at : found.start()])
            at = found.end()
            if found[1] is None:
                slots.append(Slot(len(self.sources) - 1, 1))
                continue
            depth = (len(found[1]) + 1).bit_length() - 1
            if 1 << depth != len(found[1]) + 1:
                return None
            slots.append(Slot(int(found[3]), depth))
        pieces.append(payload[at:])
        if payload.count(nonce) + payload.count(badge) != len(slots):
            return None
        return tuple(pieces), tuple(slots)

    def trials(self) -> Iterator[tuple[list[list[str]], Message]]:
        """Texts by source, and the message that they make."""
        for awkward in _AWKWARD:
            texts = [f"{awkward}{number}" for number in range(len(self.sources))]
            if self.sources and self.sources[-1].is_badge:
                texts[-1] = str(len(awkward))
            texts = [link(text) if self.sources[at].is_link else text for at, text in enumerate(texts)]
            numbers = iter(range(len(texts)))

            def fill(_: Place, text: str, texts: list[str] = texts, numbers: Iterator[int] = numbers) -> str:
                parts = parse(text).parts
                if parts is None:
                    return texts[next(numbers)]
                return "".join(part if isinstance(part, str) else texts[next(numbers)] for part in parts)

            message = replaced(self._source, fill) if self._is_liquid else self._source
            if self.sources and self.sources[-1].is_badge:
                message = msgspec.structs.replace(message, badge=int(texts[-1]), badge_increment=None)
            yield [[text] for text in texts], message


def _holds(segments: Segments, marked: _Marked, render_one: Callable[[Message], Any]) -> bool:
    """Whether joining awkward values makes what the renderer does."""
    for columns, message in marked.trials():
        made = render_one(message)
        if not isinstance(made, Rendered) or replace(made, payload=segments.rendered.payload) != segments.rendered:
            return False
        if segments.join(columns, 1) != [made.payload]:
            return False
    return True
