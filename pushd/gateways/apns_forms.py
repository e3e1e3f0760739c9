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
COLLAPSE_ID = "apns-collapse-id"
PUSH_TYPE = "apns-push-type"
TOKEN = re.compile(rb"(?:[0-9a-fA-F]{2}){1,%d}" % (apns.TOKEN_CHARS_MAX // 2))
FEW = 8
"""Up to this many rows are made one by one; a single send is one."""


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
            varying.append(Variable(COLLAPSE_ID.encode()))
        return HeaderPlan(
            (
                Field(b":method", b"POST"),
                Field(b":scheme", b"https"),
                Variable(b":path", Indexing.WITHOUT, PATH_PREFIX),
                Field(b":authority", authority),
                *_login(authorization),
                *(
                    Field(
                        name.encode(), value.encode(), Indexing.WITHOUT if name == COLLAPSE_ID else Indexing.INCREMENTAL
                    )
                    for name, value in self.fields
                ),
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
        yield from _uniform(sending, batch.payloads, address, rows, _octets(batch))
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

    def split(self, rendered: Rendered) -> tuple[Headers, bytes | None]:
        """The constant headers of a message, and its collapse id, where that can be a column.

        Columns are for values without spaces; a collapse id that has one is rare enough to be a plan of its own.
        """
        headers = rendered.headers
        for at in reversed(range(len(headers))):  # it stands last
            if headers[at][0] == COLLAPSE_ID:
                rest = (*headers[:at], *headers[at + 1 :])
                if not self.collapses:
                    return rest, None
                return (headers, None) if " " in headers[at][1] else (rest, headers[at][1].encode())
        return headers, None


def _address(batch: Batch) -> Address:
    return CHANNELS if batch.route.kind is Kind.APNS_CHANNEL else DEVICES


def _few(sending: Sending, rendered: Rendered, address: Address) -> Iterator[Load]:
    """The same for a handful of rows, where columns cost more than they save."""
    batch = sending.batch
    headers, collapse = address.split(rendered)
    shape = address.shape(batch, headers, collapse is not None)
    constants = [str(rendered.expires_at).encode(), *([collapse] if collapse is not None else [])]
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


def _uniform(
    sending: Sending,
    rendered: Rendered,
    address: Address,
    rows: NDArray[np.intp],
    octets: NDArray[np.uint8],
    matrix: NDArray[np.uint8] | None = None,
) -> Iterator[Load]:
    """Rows of one message; `matrix` has each row's own body, where that differs."""
    batch = sending.batch
    headers, collapse = address.split(rendered)
    shape = address.shape(batch, headers, collapse is not None)
    constants = [str(rendered.expires_at).encode(), *([collapse] if collapse is not None else [])]
    for width, alike in _by_length(rows, octets):
        ids = batch.ids[alike]
        of = batch.notifications if isinstance(batch.notifications, int) else batch.notifications[alike]
        columns = [octets[alike, :width], apns.apns_ids(of, ids)]
        columns += [np.broadcast_to(np.frombuffer(text, np.uint8), (len(alike), len(text))) for text in constants]
        body: bytes | http2.Bodies = rendered.payload
        if matrix is not None:
            body = http2.Bodies(b"", matrix if len(alike) == len(rows) else matrix[np.isin(rows, alike)], b"")
        yield Load(sending, alike, Uniform(shape, Columns(columns), body), len(body), uniform=True)


def _differing(sending: Sending, payloads: Bodies, address: Address, rows: NDArray[np.intp]) -> Iterator[Load]:
    """Rows whose bodies differ, as matrices."""
    octets = _octets(sending.batch)
    for chosen, matrix in matrices([payloads.octets[row] for row in rows.tolist()], rows):
        yield from _uniform(sending, payloads.shared, address, chosen, octets, matrix)


def _octets(batch: Batch) -> NDArray[np.uint8]:
    return np.ascontiguousarray(batch.tokens).view(np.uint8).reshape(len(batch), batch.tokens.dtype.itemsize)


def _by_length(rows: NDArray[np.intp], octets: NDArray[np.uint8]) -> Iterable[tuple[int, NDArray[np.intp]]]:
    """The rows grouped by the length of their tokens."""
    chosen = octets[rows]
    if chosen[:, -1].all():
        return [(octets.shape[1], rows)]
    lengths = np.count_nonzero(chosen, axis=1)
    return [(int(length), rows[lengths == length]) for length in np.unique(lengths)]


def _mixed(sending: Sending, payloads: Sequence[Rendered], address: Address, rows: NDArray[np.intp]) -> Iterator[Load]:
    batch = sending.batch
    ids = apns.apns_ids(batch.notifications, batch.ids).view("S36").ravel().tolist()
    tokens = batch.tokens.tolist()
    groups: dict[tuple[Headers, bool], tuple[list[int], list[list[bytes]], list[bytes]]] = {}
    expiries: dict[int, bytes] = {}
    for row in rows.tolist():
        rendered = payloads[row]
        headers, collapse = address.split(rendered)
        alike = headers, collapse is not None
        if alike not in groups:
            groups[alike] = [], [], []
        members, values, bodies = groups[alike]
        expiry = expiries.get(rendered.expires_at)
        if expiry is None:
            expiry = expiries[rendered.expires_at] = str(rendered.expires_at).encode()
        members.append(row)
        values.append(
            [tokens[row], ids[row], expiry] if collapse is None else [tokens[row], ids[row], expiry, collapse]
        )
        bodies.append(rendered.payload)
    for alike, (members, values, bodies) in groups.items():
        form = Mixed(address.shape(batch, *alike), values, bodies)
        yield Load(sending, np.array(members, np.intp), form, max(map(len, bodies)), uniform=False)


def _device_shape(batch: Batch, headers: Headers, collapses: bool) -> Shape:
    topic = apns.topic(batch.route.bundle, dict(headers).get(PUSH_TYPE, "alert"))
    return DeviceShape((("apns-topic", topic), *headers), collapses)


def _broadcast_shape(batch: Batch, headers: Headers, _: bool) -> Shape:
    return BroadcastShape(apns_channels.broadcast_path(batch.route.bundle), headers)


DEVICES = Address(apns.valid_tokens, TOKEN.fullmatch, BAD_TOKEN, _device_shape, True)
CHANNELS = Address(apns_channels.valid_ids, apns_channels.is_channel_id, BAD_CHANNEL, _broadcast_shape, False)
