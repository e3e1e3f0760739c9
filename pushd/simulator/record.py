"""What arrived: columns for every push, whole records of the newest, connections and violations."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.model.device import Environment
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.rules import UUID, Field, Request

CHUNK_ROWS = 65_536
NAMES_MAX = 1_000
"""Different topics, push types or reasons that are counted by name; clients choose them, so there is a bound."""
OTHER = "other"
UNANSWERED = 0
"""Status of a push that was taken and got no answer."""
NO_ID = bytes(16)


class Push(NamedTuple):
    """One push as the columns remember it; `headers` and `payload` only while it is among the newest."""

    number: int
    """1, 2, 3 in order of arrival."""
    at_ms: int
    connection: int
    token: str
    apns_id: str | None
    status: int
    reason: str
    headers: list[tuple[str, str]] | None
    payload: bytes | None


class Violation(NamedTuple):
    """Something that a client must not do."""

    at_ms: int
    connection: int
    kind: str
    detail: str


@dataclass(slots=True, eq=False)
class Link:
    """One connection, as seen from here."""

    id: int
    environment: Environment
    opened_ms: int
    peer: str = ""
    tls: str = ""
    closed_ms: int | None = None
    ended: str | None = None
    """Why it ended: the client's doing, or the name of ours."""
    team_id: str | None = None
    key_id: str | None = None
    requests: int = 0
    resets: int = 0
    """RST_STREAM frames received."""
    pings: int = 0
    provider_tokens: int = 0
    """Different provider tokens that were accepted."""
    open_streams: int = 0
    open_streams_peak: int = 0
    bad_tokens: int = 0


class _Chunk:
    """Columns of up to `CHUNK_ROWS` pushes."""

    __slots__ = ("apns_ids", "arena", "at_ms", "connections", "ends", "first", "hashes", "reasons", "statuses")

    def __init__(self, first: int) -> None:
        self.first = first
        self.hashes = array("q")
        self.arena = bytearray()
        """Device tokens, decoded from hex, and ids of channels, one after another: both are shown in hex."""
        self.ends = array("I")
        self.apns_ids = bytearray()
        """16 bytes each; zero where there was none."""
        self.statuses = array("H")
        self.reasons = array("H")
        self.at_ms = array("Q")
        self.connections = array("I")

    def __len__(self) -> int:
        return len(self.statuses)

    def token(self, row: int) -> str:
        start = self.ends[row - 1] if row else 0
        return self.arena[start : self.ends[row]].hex()

    def apns_id(self, row: int) -> str | None:
        text = self.apns_ids[16 * row : 16 * row + 16].hex()
        if text == NO_ID.hex():
            return None
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def accepted(self) -> NDArray[np.bool_]:
        return np.equal(np.array(self.statuses, np.uint16), 200)


@dataclass(slots=True, eq=False)
class Record:
    """Everything the simulator has seen since it started or was reset."""

    behaviour: Behaviour
    total: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """By reason; "" is an acceptance."""
    push_types: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    accepted_topics: Counter[str] = field(default_factory=Counter)
    unprocessed: Counter[str] = field(default_factory=Counter)
    """Requests that were not looked at, by why: refused, above a GOAWAY's last id, cut off."""
    violation_kinds: Counter[str] = field(default_factory=Counter)
    violations: deque[Violation] = field(init=False)
    connections: deque[Link] = field(init=False)
    connections_total: int = 0
    _last_link: int = 0
    _chunks: deque[_Chunk] = field(default_factory=deque)
    _newest: deque[tuple[int, list[Field], bytes]] = field(init=False)
    _codes: dict[str, int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.violations = deque(maxlen=self.behaviour.violations_kept)
        self.connections = deque(maxlen=self.behaviour.connections_kept)
        self._newest = deque(maxlen=self.behaviour.pushes_kept)
        self._chunks.append(_Chunk(1))

    def reset(self) -> None:
        """Forgets everything but connections that are still open."""
        for counter in (
            self.statuses,
            self.reasons,
            self.push_types,
            self.topics,
            self.unprocessed,
            self.accepted_topics,
        ):
            counter.clear()
        self.violation_kinds.clear()
        self.violations.clear()
        self._newest.clear()
        still_open = [link for link in self.connections if link.closed_ms is None]
        self.connections.clear()
        self.connections.extend(still_open)
        self.connections_total = len(still_open)
        self.total = 0
        self._chunks.clear()
        self._chunks.append(_Chunk(1))

    def push(self, connection: int, request: Request, status: int, reason: str, at_ms: int) -> None:
        """Adds a push and what it was told."""
        chunk = self._chunks[-1]
        if len(chunk.statuses) >= CHUNK_ROWS:
            chunk = self._new_chunk()
        terms, token, apns_id = request.terms, request.token, request.apns_id
        self.total += 1
        self.statuses[status] += 1
        self.reasons[reason] += 1
        _tally(self.push_types, terms.push_type)
        _tally(self.topics, terms.topic.decode("latin-1"))
        if status == 200:
            _tally(self.accepted_topics, terms.topic.decode("latin-1"))
        try:
            raw = token if request.broadcast else bytes.fromhex(token.decode())
        except ValueError:
            raw = b""
        chunk.hashes.append(hash(raw))
        chunk.arena += raw
        chunk.ends.append(len(chunk.arena))
        known = apns_id is not None and UUID.fullmatch(apns_id)
        chunk.apns_ids += bytes.fromhex(apns_id.replace(b"-", b"").decode()) if apns_id and known else NO_ID
        chunk.statuses.append(status)
        chunk.reasons.append(self._code(reason))
        chunk.at_ms.append(at_ms)
        chunk.connections.append(connection)
        self._newest.append((self.total, list(request.fields), request.body))

    def violate(self, connection: int, kind: str, detail: str, at_ms: int) -> None:
        """Adds something that a client must not do."""
        self.violation_kinds[kind] += 1
        self.violations.append(Violation(at_ms, connection, kind, detail))

    def connect(self, environment: Environment, at_ms: int) -> Link:
        """The record of a new connection."""
        self.connections_total += 1
        self._last_link += 1
        link = Link(self._last_link, environment, at_ms)
        self.connections.append(link)
        return link

    def count(self, token: str, *, status: int | None = None) -> int:
        """How often this device token was pushed to, and answered with `status` if that is given."""
        found = 0
        for chunk in self._chunks:
            rows = self._rows_of(chunk, token)
            found += len(rows) if status is None else sum(chunk.statuses[row] == status for row in rows)
        return found

    def pushes(self, token: str | None = None, *, since: int = 0, limit: int = 1_000) -> list[Push]:
        """Pushes after number `since`, in order of arrival, of one token or of all."""
        whole = {number: (fields, body) for number, fields, body in self._newest}
        found: list[Push] = []
        for chunk in self._chunks:
            skip = max(0, since + 1 - chunk.first)
            for row in range(skip, len(chunk)) if token is None else self._rows_of(chunk, token):
                if row >= skip:
                    found.append(self._read(chunk, row, whole.get(chunk.first + row)))
                    if len(found) >= limit:
                        return found
        return found

    def last(self, token: str) -> Push | None:
        """The newest push to this device token."""
        for chunk in reversed(self._chunks):
            rows = self._rows_of(chunk, token)
            if len(rows):
                row = int(rows[-1])
                number = chunk.first + row
                whole = next(((fields, body) for n, fields, body in reversed(self._newest) if n == number), None)
                return self._read(chunk, row, whole)
        return None

    def accepted_tokens(self) -> Counter[str]:
        """How often each device token was pushed to with success."""
        return Counter(chunk.token(row) for chunk in self._chunks for row in np.flatnonzero(chunk.accepted()).tolist())

    def duplicate_tokens(self, limit: int = 1_000) -> dict[str, int]:
        """Device tokens that accepted pushes reached more than once, with how often."""
        rows = [(chunk, np.flatnonzero(chunk.accepted())) for chunk in self._chunks]
        hashes = np.concatenate([np.array(chunk.hashes, np.int64)[kept] for chunk, kept in rows])
        found: dict[str, int] = {}
        for row, count in _repeats(hashes)[:limit]:
            chunk, at = self._at(rows, row)
            found[chunk.token(at)] = count
        return found

    def duplicate_ids(self, limit: int = 1_000) -> dict[str, int]:
        """`apns-id` values that more than one accepted push carried, with how often."""
        rows = [(chunk, np.flatnonzero(chunk.accepted())) for chunk in self._chunks]
        halves = np.dtype([("high", ">u8"), ("low", ">u8")])
        ids = np.concatenate([np.frombuffer(bytes(chunk.apns_ids), halves)[kept] for chunk, kept in rows])
        found: dict[str, int] = {}
        for row, count in _repeats(ids):
            chunk, at = self._at(rows, row)
            name = chunk.apns_id(at)
            if name is not None and len(found) < limit:
                found[name] = count
        return found

    def _at(self, rows: list[tuple[_Chunk, NDArray[np.intp]]], row: int) -> tuple[_Chunk, int]:
        for chunk, kept in rows:
            if row < len(kept):
                return chunk, int(kept[row])
            row -= len(kept)
        raise IndexError(row)

    def _rows_of(self, chunk: _Chunk, token: str) -> list[int]:
        try:
            wanted = bytes.fromhex(token)
        except ValueError:
            return []
        rows: list[int] = np.flatnonzero(np.array(chunk.hashes, np.int64) == hash(wanted)).tolist()
        return rows

    def _read(self, chunk: _Chunk, row: int, whole: tuple[list[Field], bytes] | None) -> Push:
        headers = None if whole is None else [(n.decode("latin-1"), v.decode("latin-1")) for n, v in whole[0]]
        return Push(
            number=chunk.first + row,
            at_ms=chunk.at_ms[row],
            connection=chunk.connections[row],
            token=chunk.token(row),
            apns_id=chunk.apns_id(row),
            status=chunk.statuses[row],
            reason=self._names[chunk.reasons[row]],
            headers=headers,
            payload=None if whole is None else whole[1],
        )

    def _code(self, reason: str) -> int:
        code = self._codes.get(reason)
        if code is None:
            code = self._codes[reason] = len(self._names)
            self._names.append(reason)
        return code

    def _new_chunk(self) -> _Chunk:
        chunk = _Chunk(self.total + 1)
        self._chunks.append(chunk)
        if len(self._chunks) > max(2, self.behaviour.rows_max // CHUNK_ROWS):
            self._chunks.popleft()
        return chunk


def _tally(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < NAMES_MAX else OTHER] += 1


def _repeats(values: NDArray[np.generic]) -> list[tuple[int, int]]:
    """(First row, count) of every value that a column holds more than once."""
    if not len(values):
        return []
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    many = counts > 1
    return list(zip(first[many].tolist(), counts[many].tolist(), strict=True))
