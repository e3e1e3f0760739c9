"""FCM requests of a batch: bodies around a column of tokens, grouped by what a run can share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols import fcm, http2
from protocols.fcm_reasons import INVALID_TOKEN_CONFIRMED
from pushd.batch import Bodies, Rendered
from pushd.content.fcm import TTL_FOLLOWS
from pushd.gateways.matrices import matrices
from pushd.outcome import VENDOR_CODES_FROM
from pushd.transport.queue import Load, Sending

TOKEN = re.compile(rb"[!#-\[\]-~]{1,%d}" % fcm.TOKEN_CHARS_MAX)
FEW = 8
"""Up to this many rows are made one by one; a single send is one."""
BAD_TOKEN = VENDOR_CODES_FROM + INVALID_TOKEN_CONFIRMED
"""The outcome byte of a token that could never be one."""


@dataclass(slots=True, eq=False)
class Uniform:
    """Rows with bodies of one length: one message around tokens, or, where they are not `alike`, a message each."""

    bodies: http2.Bodies
    alike: bool = True
    sound: bool = False
    """Whether FCM has taken this message for some device: a refusal then is the token's."""
    reported: bool = False
    """Whether a faulty field of it was told to the operator."""


@dataclass(slots=True, eq=False)
class Mixed:
    """Rows that differ in messages or lengths."""

    bodies: list[bytes]
    probe: bool = False
    """Whether these only ask about tokens: what FCM then says of one is final."""
    reported: bool = False


def loads(sending: Sending, now: float) -> Iterator[Load]:
    """The loads of a batch at a time in UNIX seconds; rows whose token could never be one are settled at once."""
    batch = sending.batch
    if len(batch) <= FEW and isinstance(batch.payloads, Rendered):
        yield from _few(sending, batch.payloads, now)
        return
    good = fcm.valid_tokens(batch.tokens)
    pending = batch.outcomes == 0
    bad = np.flatnonzero(pending & ~good)
    if len(bad):
        sending.settle(bad, BAD_TOKEN)
    rows = np.flatnonzero(pending & good)
    if not len(rows):
        return
    if isinstance(batch.payloads, Rendered):
        yield from _uniform(sending, batch.payloads, rows, now)
    elif isinstance(batch.payloads, Bodies):
        yield from _differing(sending, batch.payloads, rows, now)
    else:
        yield from _mixed(sending, batch.payloads, rows, now)


def probe_loads(sending: Sending) -> Iterator[Load]:
    """Requests that ask whether the tokens of a batch are tokens, with a message that cannot be at fault (F-17)."""
    head, tail = fcm.around_token(b"{}", validate_only=True)
    bodies = [head + token + tail for token in sending.batch.tokens.tolist()]
    yield _load(sending, np.arange(len(bodies)), Mixed(bodies, probe=True))


def target_loads(sending: Sending, target: fcm.Target, *, validate_only: bool, now: float) -> Iterator[Load]:
    """The one request of a batch of one row, for a topic or a condition in place of its token (F-11)."""
    rendered = sending.batch.payloads
    assert isinstance(rendered, Rendered)
    body = fcm.request_body(message(rendered, now), target, validate_only=validate_only)
    yield _load(sending, np.zeros(1, np.intp), Mixed([body]))


def message(rendered: Rendered, now: float) -> bytes:
    """The `Message` JSON as it goes out now: with what is left of its life."""
    if TTL_FOLLOWS not in rendered.headers or not rendered.expires_at:
        return rendered.payload
    return fcm.with_ttl(rendered.payload, math.ceil(rendered.expires_at - now))


def _few(sending: Sending, rendered: Rendered, now: float) -> Iterator[Load]:
    """The same for a handful of rows, where columns cost more than they save."""
    batch = sending.batch
    head, tail = fcm.around_token(message(rendered, now))
    outcomes = batch.outcomes.tolist()
    rows, bodies = [], []
    for row, token in enumerate(batch.tokens.tolist()):
        if outcomes[row]:
            continue
        if not TOKEN.fullmatch(token):
            sending.settle(np.array([row]), BAD_TOKEN)
            continue
        rows.append(row)
        bodies.append(head + token + tail)
    if rows:
        yield _load(sending, np.array(rows, np.intp), Mixed(bodies))


def _uniform(sending: Sending, rendered: Rendered, rows: NDArray[np.intp], now: float) -> Iterator[Load]:
    batch = sending.batch
    octets = np.ascontiguousarray(batch.tokens).view(np.uint8).reshape(len(batch), batch.tokens.dtype.itemsize)
    head, tail = fcm.around_token(message(rendered, now))
    for width, alike in _by_length(rows, octets):
        bodies = http2.Bodies(head, octets[alike, :width], tail)
        yield Load(sending, alike, Uniform(bodies), len(bodies), uniform=True)


def _differing(sending: Sending, payloads: Bodies, rows: NDArray[np.intp], now: float) -> Iterator[Load]:
    """Rows with a message each, as matrices of whole bodies."""
    tokens = sending.batch.tokens[rows].tolist()
    whole = []
    for row, token in zip(rows.tolist(), tokens, strict=True):
        head, tail = fcm.around_token(message(payloads[row], now))
        whole.append(head + token + tail)
    for chosen, matrix in matrices(whole, rows):
        bodies = http2.Bodies(b"", matrix, b"")
        yield Load(sending, chosen, Uniform(bodies, alike=False), len(bodies), uniform=True)


def _by_length(rows: NDArray[np.intp], octets: NDArray[np.uint8]) -> Iterable[tuple[int, NDArray[np.intp]]]:
    """The rows grouped by the length of their tokens."""
    chosen = octets[rows]
    if chosen[:, -1].all():
        return [(octets.shape[1], rows)]
    lengths = np.count_nonzero(chosen, axis=1)
    return [(int(length), rows[lengths == length]) for length in np.unique(lengths)]


def _mixed(sending: Sending, payloads: Sequence[Rendered], rows: NDArray[np.intp], now: float) -> Iterator[Load]:
    tokens = sending.batch.tokens.tolist()
    around: dict[int, tuple[bytes, bytes]] = {}
    bodies = []
    for row in rows.tolist():
        rendered = payloads[row]
        parts = around.get(id(rendered))
        if parts is None:
            parts = around[id(rendered)] = fcm.around_token(message(rendered, now))
        bodies.append(parts[0] + tokens[row] + parts[1])
    yield _load(sending, rows, Mixed(bodies))


def _load(sending: Sending, rows: NDArray[np.intp], form: Mixed) -> Load:
    return Load(sending, rows, form, max(map(len, form.bodies)), uniform=False)
