"""APNs requests of a batch as columns: addresses, ids, expirations, collapse ids, grouped by what a run can share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols import apns, apns_channels, http2
from protocols.http2 import Columns, Field, HeaderPlan, Indexing, Variable
from pushd.batch import Batch, Bodies, Rendered
from pushd.gateways.matrices import matrices
from pushd.model.device import Kind
from pushd.outcome import VENDOR_CODES_FROM
from pushd.transport.queue import Load, Sending

PATH_PREFIX = b"/3/device/"
PUSH_TYPE = "apns-push-type"
TOKEN = re.compile(rb"(?:[0-9a-fA-F]{2}){1,%d}" % (apns.TOKEN_CHARS_MAX // 2))
FEW = 8
"""Up to this many rows are made one by one; a single send is one."""
COLUMNS_MIN = 48
"""From this many rows of many messages on, columns cost less than values one by one."""


Headers = tuple[tuple[str, str], ...]


class Shape(Protocol):
    """What the requests of a run have in common apart from host and authorization."""

    def __hash__(self) -> int:
        """Plans are kept by it."""

    def plan(self, authority: bytes, authorization: bytes | None) -> HeaderPlan:
        """The header plan on a connection that pinned this authorization, if any, indexed as Apple asks (A-42)."""


class DeviceShape(NamedTuple):
    """Pushes to devices."""

    fields: tuple[tuple[str, str], ...]
    """Constant headers, apns-topic first."""
    collapses: bool
    """Whether each has an apns-collapse-id of its own."""

    def plan(self, authority: bytes, authorization: bytes | None) -> HeaderPlan:
        """The header plan: what varies is token, id, expiration and collapse id."""
        varying = [Variable(b"apns-id"), Variable(b"apns-expiration")]
        if self.collapses:
            varying.append(Variable(apns.COLLAPSE_ID.encode()))
        return HeaderPlan(
            (
                Field(b":method", b"POST"),
                Field(b":scheme", b"https"),
                Variable(b":path", Indexing.WITHOUT, PATH_PREFIX),
                Field(b":authority", authority),
                *_login(authorization),
                *(Field(name.encode(), value.encode()) for name, value in self.fields),
                *varying,
            )
        )


class BroadcastShape(NamedTuple):
    """Pushes to channels (A-04, A-38): one path for a bundle id, no topic; a header names the channel."""

    path: bytes
    fields: tuple[tuple[str, str], ...]

    def plan(self, authority: bytes, authorization: bytes | None) -> HeaderPlan:
        """The header plan: what varies is channel, id and expiration."""
        return HeaderPlan(
            (
                Field(b":method", b"POST"),
                Field(b":scheme", b"https"),
                Field(b":path", self.path, Indexing.WITHOUT),
                Field(b":authority", authority),
                *_login(authorization),
                *(Field(name.encode(), value.encode()) for name, value in self.fields),
                Variable(apns_channels.CHANNEL_ID.encode()),
                Variable(apns_channels.REQUEST_ID.encode()),
                Variable(b"apns-expiration"),
            )
        )


def _login(authorization: bytes | None) -> list[Field]:
    return [] if authorization is None else [Field(b"authorization", authorization, Indexing.WITHOUT)]


@dataclass(slots=True, eq=False)
class Uniform:
    """Rows with tokens of one length, and with one body or bodies of one length."""

    shape: Shape
    columns: Columns
    """A matrix of octets per variable of the plan."""
    body: bytes | http2.Bodies


@dataclass(slots=True, eq=False)
class Mixed:
    """Rows that differ in bodies or lengths."""

    shape: Shape
    values: list[list[bytes]]
    """Per row, a value for each variable of the plan."""
    bodies: list[bytes]


def loads(sending: Sending) -> Iterator[Load]:
    """The loads of a batch; rows whose token could never be one are settled at once (A-30)."""
    batch = sending.batch
    address = _address(batch)
    if len(batch) <= FEW and isinstance(batch.payloads, Rendered):
        yield from _few(sending, batch.payloads, address)
        return
    good = address.valid(batch.tokens)
    pending = batch.outcomes == 0
    bad = np.flatnonzero(pending & ~good)
    if len(bad):
        sending.settle(bad, address.bad)
    rows = np.flatnonzero(pending & good)
    if not len(rows):
        return
    if isinstance(batch.payloads, Rendered):
        yield from _same(sending, batch.payloads, address, rows)
    elif isinstance(batch.payloads, Bodies):
        yield from _differing(sending, batch.payloads, address, rows)
    else:
        yield from _mixed(sending, batch.payloads, address, rows)


def code_of(status: int, reason: str) -> int:
    """The outcome byte of an answer."""
    return VENDOR_CODES_FROM + apns.lookup(status, reason)


BAD_TOKEN = code_of(400, "BadDeviceToken")
BAD_CHANNEL = code_of(400, "BadChannelId")


class Address(NamedTuple):
    """Where devices and channels differ: chosen once per batch, for a route has one kind."""

    valid: Callable[[NDArray[np.bytes_]], NDArray[np.bool_]]
    """Which rows of a column may enter a request."""
    possible: Callable[[bytes], object]
    """The same of one row."""
    bad: int
    """The code of those that may not."""
    shape: Callable[[Batch, Headers, bool], Shape]
    """What requests with these constant headers share; whether each has a collapse id of its own."""
    collapses: bool
    """Whether they have collapse ids at all."""


def _address(batch: Batch) -> Address:
    return CHANNELS if batch.route.kind is Kind.APNS_CHANNEL else DEVICES


def _few(sending: Sending, rendered: Rendered, address: Address) -> Iterator[Load]:
    """The same for a handful of rows, where columns cost more than they save."""
    batch = sending.batch
    constants = _constants(rendered, address)
    shape = address.shape(batch, rendered.headers, len(constants) > 1)
    tokens, ids, outcomes = batch.tokens.tolist(), batch.ids.tolist(), batch.outcomes.tolist()
    of = batch.notifications
    rows, values = [], []
    for row, token in enumerate(tokens):
        if outcomes[row]:
            continue
        if not address.possible(token):
            sending.settle(np.array([row]), address.bad)
            continue
        apns_id = apns.apns_id(of if isinstance(of, int) else int(of[row]), ids[row]).encode()
        rows.append(row)
        values.append([token, apns_id, *constants])
    if rows:
        form = Mixed(shape, values, [rendered.payload] * len(rows))
        yield Load(sending, np.array(rows, np.intp), form, len(rendered.payload), uniform=False)


def _same(sending: Sending, rendered: Rendered, address: Address, rows: NDArray[np.intp]) -> Iterator[Load]:
    """Rows of one message."""
    texts = _constants(rendered, address)
    shape = address.shape(sending.batch, rendered.headers, len(texts) > 1)
    yield from _uniform(sending, shape, rows, [_repeated(text, len(rows)) for text in texts], rendered.payload)


def _differing(sending: Sending, payloads: Bodies, address: Address, rows: NDArray[np.intp]) -> Iterator[Load]:
    """Rows of one message whose bodies differ."""
    texts = _constants(payloads.shared, address)
    shape = address.shape(sending.batch, payloads.shared.headers, len(texts) > 1)
    for chosen, matrix in matrices([payloads.octets[row] for row in rows.tolist()], rows):
        yield from _uniform(sending, shape, chosen, [_repeated(text, len(chosen)) for text in texts], matrix)


def _mixed(sending: Sending, payloads: Sequence[Rendered], address: Address, rows: NDArray[np.intp]) -> Iterator[Load]:
    """Rows of many messages: where many differ in octets of one length, those as columns; the others one by one."""
    batch = sending.batch
    groups: dict[tuple[Headers, int, int], list[int]] = {}
    for row in rows.tolist():
        rendered = payloads[row]
        width = len(rendered.collapse_id or "") if address.collapses else 0
        groups.setdefault((rendered.headers, width, rendered.expires_at), []).append(row)
    others: dict[tuple[Headers, bool], list[int]] = {}
    for (headers, width, expires_at), members in groups.items():
        for chosen, matrix in matrices([payloads[row].payload for row in members], np.array(members, np.intp)):
            if len(chosen) < COLUMNS_MIN:
                others.setdefault((headers, width > 0), []).extend(chosen.tolist())
                continue
            values = [_repeated(str(expires_at).encode(), len(chosen))]
            if width:
                collapse = "".join([payloads[row].collapse_id or "" for row in chosen.tolist()]).encode()
                values.append(np.frombuffer(collapse, np.uint8).reshape(len(chosen), width))
            yield from _uniform(sending, address.shape(batch, headers, width > 0), chosen, values, matrix)
    for (headers, collapses), left in others.items():
        yield _singly(sending, payloads, address, address.shape(batch, headers, collapses), np.array(left, np.intp))


def _uniform(
    sending: Sending,
    shape: Shape,
    rows: NDArray[np.intp],
    values: Sequence[NDArray[np.uint8]],
    body: bytes | NDArray[np.uint8],
) -> Iterator[Load]:
    """Rows whose values differ, but not their lengths; one body for all, or a matrix of them."""
    batch = sending.batch
    octets = np.ascontiguousarray(batch.tokens).view(np.uint8).reshape(len(batch), batch.tokens.dtype.itemsize)[rows]
    for width, some in _by_length(octets):
        alike = rows[some]
        columns = [octets[some, :width], _apns_ids(batch, alike), *(value[some] for value in values)]
        bodies = body if isinstance(body, bytes) else http2.Bodies(b"", body[some], b"")
        yield Load(sending, alike, Uniform(shape, Columns(columns), bodies), len(bodies), uniform=True)


def _singly(
    sending: Sending, payloads: Sequence[Rendered], address: Address, shape: Shape, rows: NDArray[np.intp]
) -> Load:
    """Rows that differ in whatever may."""
    batch = sending.batch
    ids = _apns_ids(batch, rows).view("S36").ravel().tolist()
    rendered = [payloads[row] for row in rows.tolist()]
    values = [
        [token, apns_id, *_constants(each, address)]
        for token, apns_id, each in zip(batch.tokens[rows].tolist(), ids, rendered, strict=True)
    ]
    bodies = [each.payload for each in rendered]
    return Load(sending, rows, Mixed(shape, values, bodies), max(map(len, bodies)), uniform=False)


def _constants(rendered: Rendered, address: Address) -> list[bytes]:
    """The expiration of a message, and what it replaces, if anything."""
    expiry = str(rendered.expires_at).encode()
    collapse = rendered.collapse_id if address.collapses else None
    return [expiry] if collapse is None else [expiry, collapse.encode()]


def _repeated(text: bytes, rows: int) -> NDArray[np.uint8]:
    """A column of the same text."""
    return np.broadcast_to(np.frombuffer(text, np.uint8), (rows, len(text)))


def _apns_ids(batch: Batch, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
    of = batch.notifications
    return apns.apns_ids(of if isinstance(of, int) else of[rows], batch.ids[rows])


def _by_length(octets: NDArray[np.uint8]) -> Iterable[tuple[int, slice | NDArray[np.intp]]]:
    """Lengths of texts that are filled up with NULs, and which have them."""
    if octets[:, -1].all():
        return [(octets.shape[1], slice(None))]
    lengths = np.count_nonzero(octets, axis=1)
    return [(int(length), np.flatnonzero(lengths == length)) for length in np.unique(lengths)]


def _device_shape(batch: Batch, headers: Headers, collapses: bool) -> Shape:
    topic = apns.topic(batch.route.bundle, dict(headers).get(PUSH_TYPE, "alert"))
    return DeviceShape((("apns-topic", topic), *headers), collapses)


def _broadcast_shape(batch: Batch, headers: Headers, _: bool) -> Shape:
    return BroadcastShape(apns_channels.broadcast_path(batch.route.bundle), headers)


DEVICES = Address(apns.valid_tokens, TOKEN.fullmatch, BAD_TOKEN, _device_shape, True)
CHANNELS = Address(apns_channels.valid_ids, apns_channels.is_channel_id, BAD_CHANNEL, _broadcast_shape, False)
