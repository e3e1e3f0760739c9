"""Scripted faults: which requests or connections they strike, how often, and what then happens.

The first fault that strikes wins; those that name a token are asked before those that name a prefix, and those before
faults by rate alone; older before newer. Everything random comes from the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta, Struct

from pushd.errors import InvalidRequestError
from pushd.model.device import Environment
from pushd.simulator import fcm_rules
from pushd.simulator.behaviour import Uint31
from pushd.simulator.reasons import STATUSES

Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Code = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="answer"):
    """Answers with this status in place of what would have been said."""

    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    """Absent: the status that Apple gives with `reason`, or 200."""
    reason: Annotated[str, Meta(max_length=200)] | None = None
    timestamp: int | Literal["now", "seconds", "future", "missing"] = "now"
    """Of a 410, ms since the epoch; `seconds` is now in the wrong unit, `future` is a day ahead."""
    retry_after: Annotated[str, Meta(max_length=200)] | None = None
    """Sent as it is, also when it makes no sense."""
    body: Annotated[str, Meta(max_length=65_536)] | None = None
    """In place of Apple's JSON."""
    html: bool = False
    """An HTML page, as from a box in the middle."""
    framing: Literal["whole", "headers_only", "bytes", "padded", "empty_frames"] = "whole"
    """How the body is cut into DATA frames; `headers_only` ends the stream with HEADERS."""
    trailers: bool = False
    informational: bool = False
    """A 103 goes first."""
    apns_id: Literal["echo", "missing", "wrong", "same"] = "echo"
    """`wrong` is a fresh one each time, `same` is one for all."""
    early: bool = False
    """Before the body was read, which RST_STREAM(NO_ERROR) then stops (RFC 9113 section 8.1)."""
    latency_ms: Milliseconds = 0


class Slow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="slow"):
    """The ordinary answer, later."""

    latency_ms: Milliseconds
    jitter_ms: Milliseconds = 0


class Silence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="silence"):
    """The request is taken and never answered."""


class Reset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="reset"):
    """RST_STREAM; with REFUSED_STREAM (7) the request counts as not processed."""

    code: Code = 7
    twice: bool = False
    """A second RST_STREAM, STREAM_CLOSED (5), follows, as when HEADERS and DATA were both in flight (A-62)."""
    early: bool = False
    """At the HEADERS, before the body."""
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    """HEADERS with this status go first, without END_STREAM: an answer cut short."""


class Block(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="block"):
    """Answers with a HEADERS frame that holds exactly these bytes, given in hex: for hostile header blocks."""

    hex: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{2})*$", max_length=32_768)]


class Goaway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="goaway"):
    """GOAWAY; streams above its last id are dropped unanswered, the others are still answered."""

    last: Uint31 | Literal["max", "seen", "before", "none"] = "seen"
    """Last stream id: 2^31-1, the highest seen, the one before the request that was struck, or 0. Requests above it
    that were taken before stay on record, though their answers are dropped: only a lying server says so."""
    code: Code = 0
    debug: Literal["json", "text", "empty", "binary", "large"] = "empty"
    """Debug data: `{"reason": …}`, the reason alone, nothing, bytes that are no text, or 16 KB."""
    reason: Annotated[str, Meta(max_length=200)] = "Shutdown"
    warn_ms: Milliseconds | None = None
    """A first GOAWAY with 2^31-1 goes this long before the real one."""
    close_after_ms: Milliseconds | None = 0
    """From the real one to closing the connection; null: never."""


class Close(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="close"):
    """The connection ends without a GOAWAY."""

    how: Literal["fin", "abort", "mid_frame"] = "fin"
    """`mid_frame` writes the first bytes of an answer before the FIN."""
    after_ms: Milliseconds = 0


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One SETTINGS frame, this long after the one before."""

    after_ms: Milliseconds = 0
    max_concurrent_streams: Uint31 | None = None
    initial_window_size: Uint31 | None = None
    max_frame_size: Annotated[int, Meta(ge=16_384, le=2**24 - 1)] | None = None
    header_table_size: Code | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="settings"):
    """SETTINGS frames one after another; the last stream limit stays."""

    steps: Annotated[list[Step], Meta(min_length=1, max_length=1_000)]
    repeat: Annotated[int, Meta(ge=1, le=10_000)] = 1


class LateSettings(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="late_settings"
):
    """Nothing is sent, not even the first SETTINGS, for this long after the connection was made."""

    delay_ms: Milliseconds


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="window"):
    """Flow-control credit is short: small stream windows, or connection credit that is held back."""

    initial_window_size: Uint31 | None = None
    """Announced for new streams; also moves the windows of open ones, below zero if need be."""
    stream_credit: Uint31 = 65_535
    """WINDOW_UPDATE for each stream whose body has not ended…"""
    stream_credit_after_ms: Milliseconds = 0
    """…this long after its HEADERS; 0: none."""
    hold_ms: Milliseconds = 0
    """No connection credit for this long."""


class Mute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="mute"):
    """From now on nothing is written on this connection: a black hole."""


class IgnorePing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="ignore_ping"):
    """From now on PING is not answered on this connection."""


RequestAction = Answer | Slow | Silence | Reset | Block
"""What can happen to a request."""
ConnectionAction = Goaway | Close | Settings | LateSettings | Window | Mute | IgnorePing
"""What can happen to a connection, when it is made or when a request strikes the fault."""
Action = RequestAction | ConnectionAction


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One scripted fault: every condition given must hold."""

    action: Action
    at: Literal["request", "connect"] = "request"
    tokens: list[str] = []
    """Exactly these device tokens."""
    token_prefix: str | None = None
    topic: str | None = None
    environment: Environment | None = None
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of matches that it strikes."""
    sticky: bool = False
    """The share is one of tokens: a token is struck always or never."""
    skip: Annotated[int, Meta(ge=0)] = 0
    """Matches that pass unharmed first."""
    count: Annotated[int, Meta(ge=1)] | None = None
    """Strikes after which it is spent."""
    per_token: Annotated[int, Meta(ge=1)] | None = None
    """Strikes per token after which it leaves that token alone."""


@dataclass(slots=True, eq=False)
class Scripted:
    """A fault in force and what it has done so far."""

    id: int
    fault: Fault
    dice: random.Random
    salt: int
    matched: int = 0
    struck: int = 0
    by_token: dict[bytes, int] = field(default_factory=dict)

    def strikes(self, token: bytes, topic: bytes, environment: Environment) -> bool:
        """Whether it strikes this time; counts that it did."""
        fault = self.fault
        if fault.environment not in (None, environment) or (fault.topic and fault.topic.encode() != topic):
            return False
        if fault.count is not None and self.struck >= fault.count:
            return False
        if fault.per_token is not None and self.by_token.get(token, 0) >= fault.per_token:
            return False
        if fault.rate < 1.0 and not self._drawn(token):
            return False
        self.matched += 1
        if self.matched <= fault.skip:
            return False
        self.struck += 1
        if fault.per_token is not None:
            self.by_token[token] = self.by_token.get(token, 0) + 1
        return True

    def _drawn(self, token: bytes) -> bool:
        if self.fault.sticky:
            return random.Random(self.salt.to_bytes(8, "big") + token).random() < self.fault.rate  # noqa: S311 - dice, not secrets
        return self.dice.random() < self.fault.rate


class FaultBook:
    """The faults in force."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._next_id = 1
        self._all: dict[int, Scripted] = {}
        self._by_token: dict[bytes, list[Scripted]] = {}
        self._by_prefix: list[Scripted] = []
        self._by_rate: list[Scripted] = []
        self._on_connect: list[Scripted] = []

    def add(self, fault: Fault) -> int:
        """The id under which the fault is now in force."""
        check(fault)
        salt = self.seed * 1_000_003 + self._next_id
        dice = random.Random(salt)  # noqa: S311 - dice, not secrets
        scripted = Scripted(self._next_id, fault, dice, salt % 2**64)
        self._all[scripted.id] = scripted
        self._next_id += 1
        if fault.at == "connect":
            self._on_connect.append(scripted)
        elif fault.tokens:
            for token in fault.tokens:
                self._by_token.setdefault(token.lower().encode(), []).append(scripted)
        elif fault.token_prefix is not None:
            self._by_prefix.append(scripted)
        else:
            self._by_rate.append(scripted)
        return scripted.id

    def answer(self, tokens: Iterable[str], reason: str, *, timestamp_ms: int | None = None) -> int:
        """The id of a new fault that gives these tokens Apple's answer with this reason."""
        action = Answer(reason=reason) if timestamp_ms is None else Answer(reason=reason, timestamp=timestamp_ms)
        return self.add(Fault(tokens=list(tokens), action=action))

    def remove(self, fault_id: int) -> bool:
        """Whether there was such a fault."""
        scripted = self._all.pop(fault_id, None)
        if scripted is None:
            return False
        for listed in (self._by_prefix, self._by_rate, self._on_connect):
            if scripted in listed:
                listed.remove(scripted)
        for token in scripted.fault.tokens:
            key = token.lower().encode()
            if scripted in self._by_token.get(key, ()):
                self._by_token[key].remove(scripted)
        return True

    def clear(self) -> None:
        """Takes every fault out of force; ids are not used again."""
        self._all.clear()
        self._by_token.clear()
        for listed in (self._by_prefix, self._by_rate, self._on_connect):
            listed.clear()

    def listed(self) -> list[Scripted]:
        """Every fault in force, oldest first."""
        return list(self._all.values())

    def strike(self, token: bytes, topic: bytes, environment: Environment) -> Action | None:
        """What is to happen to this request, if anything."""
        if not self._all:
            return None
        token = token.lower()
        for scripted in self._by_token.get(token, ()):
            if scripted.strikes(token, topic, environment):
                return scripted.fault.action
        for scripted in self._by_prefix:
            prefix = (scripted.fault.token_prefix or "").lower().encode()
            if token.startswith(prefix) and scripted.strikes(token, topic, environment):
                return scripted.fault.action
        for scripted in self._by_rate:
            if scripted.strikes(token, topic, environment):
                return scripted.fault.action
        return None

    def strike_connection(self, environment: Environment) -> list[ConnectionAction]:
        """Everything that is to happen to a new connection."""
        return [
            scripted.fault.action
            for scripted in self._on_connect
            if scripted.strikes(b"", b"", environment) and isinstance(scripted.fault.action, ConnectionAction)
        ]


def check(fault: Fault) -> None:
    """Refuses a fault whose parts do not fit together."""
    if fault.at == "connect" and isinstance(fault.action, RequestAction):
        raise InvalidRequestError("this action needs a request to strike")
    if fault.at == "request" and isinstance(fault.action, LateSettings):
        raise InvalidRequestError("late_settings only makes sense at connect")
    if fault.at == "connect" and (fault.tokens or fault.token_prefix is not None or fault.topic or fault.per_token):
        raise InvalidRequestError("a connection has no token and no topic when it is made")
    if fault.tokens and fault.token_prefix is not None:
        raise InvalidRequestError("name tokens or a prefix, not both")
    action = fault.action
    if isinstance(action, Window) and (action.initial_window_size or 0) + action.stream_credit >= 2**31:
        raise InvalidRequestError("a window of 2^31 bytes is beyond HTTP/2")
    if (
        isinstance(action, Answer)
        and action.status is None
        and action.reason not in (None, *STATUSES, *fcm_rules.STATUSES)
    ):
        raise InvalidRequestError("a reason that no vendor documents needs a status")
