"""APNs requests of a batch as columns: paths, ids, expirations and collapse ids, grouped by what a run can share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols import apns
from protocols.http2 import Columns, Field, HeaderPlan, Indexing, Variable
from pushd.batch import Batch, Rendered
from pushd.outcome import VENDOR_CODES_FROM
from pushd.transport.queue import Load, Sending

PATH_PREFIX = b"/3/device/"
COLLAPSE_ID = "apns-collapse-id"
PUSH_TYPE = "apns-push-type"
TOKEN = re.compile(rb"(?:[0-9a-fA-F]{2}){1,%d}" % (apns.TOKEN_CHARS_MAX // 2))
FEW = 8
"""Up to this many rows are made one by one; a single send is one."""


class Shape(NamedTuple):
    """What the requests of a run have in common apart from host and authorization."""

    fields: tuple[tuple[str, str], ...]
    """Constant headers, apns-topic first."""
    collapses: bool
    """Whether each has an apns-collapse-id of its own."""

    def plan(self, authority: bytes, authorization: bytes | None) -> HeaderPlan:
        """The header plan on a connection that pinned this authorization, if any, indexed as Apple asks (A-42)."""
        login = [] if authorization is None else [Field(b"authorization", authorization, Indexing.WITHOUT)]
        varying = [Variable(b"apns-id"), Variable(b"apns-expiration")]
        if self.collapses:
            varying.append(Variable(COLLAPSE_ID.encode()))
        return HeaderPlan(
            (
                Field(b":method", b"POST"),
                Field(b":scheme", b"https"),
                Variable(b":path", Indexing.WITHOUT, PATH_PREFIX),
                Field(b":authority", authority),
                *login,
                *(
                    Field(
                        name.encode(), value.encode(), Indexing.WITHOUT if name == COLLAPSE_ID else Indexing.INCREMENTAL
                    )
                    for name, value in self.fields
                ),
                *varying,
            )
        )


@dataclass(slots=True, eq=False)
class Uniform:
    """Rows with one body and tokens of one length."""

    shape: Shape
    columns: Columns
    """A matrix of octets per variable of the plan."""
    body: bytes


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
    if len(batch) <= FEW and isinstance(batch.payloads, Rendered):
        yield from _few(sending, batch.payloads)
        return
    good = apns.valid_tokens(batch.tokens)
    pending = batch.outcomes == 0
    bad = np.flatnonzero(pending & ~good)
    if len(bad):
        sending.settle(bad, BAD_TOKEN)
    rows = np.flatnonzero(pending & good)
    if not len(rows):
        return
    if isinstance(batch.payloads, Rendered):
        octets = np.ascontiguousarray(batch.tokens).view(np.uint8).reshape(len(batch), batch.tokens.dtype.itemsize)
        yield from _uniform(sending, batch.payloads, rows, octets)
    else:
        yield from _mixed(sending, batch.payloads, rows)


def code_of(status: int, reason: str) -> int:
    """The outcome byte of an answer."""
    return VENDOR_CODES_FROM + apns.lookup(status, reason)


BAD_TOKEN = code_of(400, "BadDeviceToken")


def _few(sending: Sending, rendered: Rendered) -> Iterator[Load]:
    """The same for a handful of rows, where columns cost more than they save."""
    batch = sending.batch
    shape, collapse = _shape(batch, rendered)
    constants = [str(rendered.expires_at).encode(), *([collapse] if collapse is not None else [])]
    tokens, ids, outcomes = batch.tokens.tolist(), batch.ids.tolist(), batch.outcomes.tolist()
    of = batch.notifications
    rows, values = [], []
    for row, token in enumerate(tokens):
        if outcomes[row]:
            continue
        if not TOKEN.fullmatch(token):
            sending.settle(np.array([row]), BAD_TOKEN)
            continue
        apns_id = apns.apns_id(of if isinstance(of, int) else int(of[row]), ids[row]).encode()
        rows.append(row)
        values.append([token, apns_id, *constants])
    if rows:
        form = Mixed(shape, values, [rendered.payload] * len(rows))
        yield Load(sending, np.array(rows, np.intp), form, len(rendered.payload), uniform=False)


def _uniform(sending: Sending, rendered: Rendered, rows: NDArray[np.intp], octets: NDArray[np.uint8]) -> Iterator[Load]:
    batch = sending.batch
    shape, collapse = _shape(batch, rendered)
    constants = [str(rendered.expires_at).encode(), *([collapse] if collapse is not None else [])]
    for width, alike in _by_length(rows, octets):
        ids = batch.ids[alike]
        of = batch.notifications if isinstance(batch.notifications, int) else batch.notifications[alike]
        columns = [octets[alike, :width], apns.apns_ids(of, ids)]
        columns += [np.broadcast_to(np.frombuffer(text, np.uint8), (len(alike), len(text))) for text in constants]
        form = Uniform(shape, Columns(columns), rendered.payload)
        yield Load(sending, alike, form, len(rendered.payload), uniform=True)


def _by_length(rows: NDArray[np.intp], octets: NDArray[np.uint8]) -> Iterable[tuple[int, NDArray[np.intp]]]:
    """The rows grouped by the length of their tokens."""
    chosen = octets[rows]
    if chosen[:, -1].all():
        return [(octets.shape[1], rows)]
    lengths = np.count_nonzero(chosen, axis=1)
    return [(int(length), rows[lengths == length]) for length in np.unique(lengths)]


def _mixed(sending: Sending, payloads: Sequence[Rendered], rows: NDArray[np.intp]) -> Iterator[Load]:
    batch = sending.batch
    ids = apns.apns_ids(batch.notifications, batch.ids).view("S36").ravel().tolist()
    tokens = batch.tokens.tolist()
    groups: dict[Shape, tuple[list[int], list[list[bytes]], list[bytes]]] = {}
    shapes: dict[int, tuple[Shape, list[bytes]]] = {}
    for row in rows.tolist():
        rendered = payloads[row]
        known = shapes.get(id(rendered))
        if known is None:
            shape, collapse = _shape(batch, rendered)
            known = shapes[id(rendered)] = (
                shape,
                [str(rendered.expires_at).encode(), *([collapse] if collapse is not None else [])],
            )
        members, values, bodies = groups.setdefault(known[0], ([], [], []))
        members.append(row)
        values.append([tokens[row], ids[row], *known[1]])
        bodies.append(rendered.payload)
    for shape, (members, values, bodies) in groups.items():
        form = Mixed(shape, values, bodies)
        yield Load(sending, np.array(members, np.intp), form, max(map(len, bodies)), uniform=False)


def _shape(batch: Batch, rendered: Rendered) -> tuple[Shape, bytes | None]:
    """What the requests of one message share, and its collapse id."""
    headers = dict(rendered.headers)
    # Columns are for values without spaces; a collapse id that has one is rare enough to be a plan of its own.
    collapse = headers.pop(COLLAPSE_ID, None) if " " not in headers.get(COLLAPSE_ID, "") else None
    topic = apns.topic(batch.route.bundle, headers.get(PUSH_TYPE, "alert"))
    fields = (("apns-topic", topic), *headers.items())
    return Shape(fields, collapse is not None), None if collapse is None else collapse.encode()
