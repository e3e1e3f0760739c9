"""Web Push requests as columns: paths, lengths, topics and encrypted bodies, grouped by what a run can share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols import webpush
from protocols.http2 import Bodies, HeaderPlan
from pushd.batch import Rendered
from pushd.credentials.vapid_keys import SigningKey
from pushd.transport.queue import Load, Sending

Octets = NDArray[np.uint8]
TOPIC = "topic"


class Shape(NamedTuple):
    """What the requests of a run have in common apart from the authorization's value."""

    key: SigningKey
    constants: tuple[tuple[bytes, bytes], ...]
    has_topic: bool
    has_body: bool

    def plan(self, authority: bytes, authorization: bytes) -> HeaderPlan:
        """The header plan with this authorization."""
        return webpush.header_plan(
            authority, authorization, self.constants, has_topic=self.has_topic, has_body=self.has_body
        )


@dataclass(slots=True, eq=False)
class Form:
    """Rows with paths and bodies of one length."""

    shape: Shape
    columns: list[Octets]
    """A matrix of octets per variable of the plan."""
    bodies: Octets | None

    def body(self, start: int, stop: int) -> bytes | Bodies:
        """The bodies of some rows, as the connection takes them."""
        return b"" if self.bodies is None else Bodies(b"", self.bodies[start:stop], b"")

    def row(self, row: int) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Path, header fields and body of one row, for HTTP/1.1."""
        names = (b":path", b"ttl", b"content-length", b"topic")
        values = dict(zip(names, (column[row].tobytes() for column in self.columns), strict=False))
        path = values.pop(b":path")
        fields = {**dict(self.shape.constants), **values}
        if self.bodies is None:
            return path, fields, b""
        fields |= {b"content-type": b"application/octet-stream", b"content-encoding": b"aes128gcm"}
        return path, fields, self.bodies[row].tobytes()


class Rows(NamedTuple):
    """Rows of a batch that go to one origin with one key and one message."""

    host: bytes
    path_at: int
    """Where the path begins in an address."""
    key: SigningKey
    rendered: Rendered


def loads(sending: Sending, of: Rows, rows: NDArray[np.intp], bodies: Octets | None, now: float) -> Iterator[Load]:
    """The loads of rows with their bodies, a row each; paths of one length go together."""
    lines = sending.batch.tokens[rows]
    octets = np.ascontiguousarray(lines).view(np.uint8).reshape(len(rows), lines.dtype.itemsize)
    ends: NDArray[np.intp] = np.strings.str_len(lines)
    headers = dict(of.rendered.headers)
    ttl_s = webpush.ttl(of.rendered.expires_at - int(now) if of.rendered.expires_at else 0, of.host)
    constants = tuple((name.encode(), text.encode()) for name, text in headers.items() if name != TOPIC)
    shape = Shape(of.key, (*constants, *webpush.extra_fields(of.host, ttl_s)), TOPIC in headers, bodies is not None)
    length = 0 if bodies is None else bodies.shape[1]
    texts = [b"%d" % ttl_s, b"%d" % length]
    if shape.has_topic:
        texts.append(headers[TOPIC].encode())
    for end in np.unique(ends).tolist():
        alike = np.flatnonzero(ends == end)
        columns = [octets[alike, of.path_at : end]]
        columns += [np.broadcast_to(np.frombuffer(text, np.uint8), (len(alike), len(text))) for text in texts]
        form = Form(shape, columns, None if bodies is None else bodies[alike])
        yield Load(sending, rows[alike], form, length, uniform=True)
