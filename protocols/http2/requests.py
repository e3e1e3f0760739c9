"""Frames of requests: rows that are alike as one matrix of octets, rows that differ one by one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from protocols.errors import LocalProtocolError
from protocols.http2 import frames
from protocols.http2.bodies import Bodies
from protocols.http2.encoding import Compiled, Pieces, integer
from protocols.http2.plans import Variable

Column = NDArray[np.uint8]
STREAM_IDS = np.dtype(">u4")
"""As they stand in frames."""
TEMPLATE_OCTETS_MAX = 65_536
"""A row longer than this is laid out anew each time."""
FRAME_HEAD = struct.Struct(">QL")
"""Length, type and flags in the low five octets of the first word; then the stream."""
HEADERS_LAST = frames.HEADERS << 8 | frames.END_HEADERS
DATA_LAST = frames.DATA << 8 | frames.END_STREAM
LENGTHS_COUNT = 512
LENGTHS = tuple(integer(size, 7, 0) for size in range(LENGTHS_COUNT))
"""The length octets of usual strings (RFC 7541 section 5.2)."""


def block(pieces: Pieces, variables: Sequence[Variable], values: Sequence[bytes]) -> bytes:
    """The header block of one row."""
    parts = [pieces[0]]
    for variable, value, piece in zip(variables, values, pieces[1:], strict=True):
        size = len(variable.prefix) + len(value)
        parts += (LENGTHS[size] if size < LENGTHS_COUNT else integer(size, 7, 0), variable.prefix, value, piece)
    return b"".join(parts)


def each(
    first_stream: int,
    compiled: Compiled,
    variables: Sequence[Variable],
    values: Sequence[Sequence[bytes]],
    bodies: Sequence[bytes],
    frame_bytes_max: int,
) -> list[bytes]:
    """HEADERS and DATA of rows that may differ in everything that varies."""
    out: list[bytes] = []
    pieces = compiled.seed or compiled.steady
    stream, pack = first_stream, FRAME_HEAD.pack
    for row, body in zip(values, bodies, strict=True):
        fields = block(pieces, variables, row)
        if body and len(fields) <= frame_bytes_max >= len(body):  # what `frames` would make, in one step
            out += (pack(len(fields) << 16 | HEADERS_LAST, stream)[3:], fields)
            out += (pack(len(body) << 16 | DATA_LAST, stream)[3:], body)
        else:
            out.append(frames.headers(stream, fields, end_stream=not body, frame_bytes_max=frame_bytes_max))
            if body:
                out.append(frames.data(stream, body, end_stream=True, frame_bytes_max=frame_bytes_max))
        pieces = compiled.steady
        stream += 2
    return out


class Template:
    """One row of requests that are alike, with zeros where rows differ; `uniform` repeats it."""

    __slots__ = ("at", "block_bytes", "octets", "streams_at")

    def __init__(
        self,
        pieces: Pieces,
        variables: Sequence[Variable],
        widths: Sequence[int],
        body: bytes | Bodies,
        frame_bytes_max: int,
    ) -> None:
        row, self.at = bytearray(frames.HEADER_BYTES), list[int]()
        row += pieces[0]
        for variable, width, piece in zip(variables, widths, pieces[1:], strict=True):
            row += integer(len(variable.prefix) + width, 7, 0) + variable.prefix
            self.at.append(len(row))
            row += bytes(width) + piece
        self.block_bytes = len(row) - frames.HEADER_BYTES
        flags = frames.END_HEADERS if body else frames.END_HEADERS | frames.END_STREAM
        row[: frames.HEADER_BYTES] = frames.head(self.block_bytes, frames.HEADERS, flags, 0)
        self.streams_at = [5]
        """Where the row's stream id stands; `at`: where its columns do, that of the body last."""
        if body:
            if isinstance(body, Bodies):
                self.at.append(len(row) + frames.HEADER_BYTES + len(body.head))
                body = body.template
            self.streams_at += _data_streams(len(row), len(body), frame_bytes_max)
            row += frames.data(0, body, end_stream=True, frame_bytes_max=frame_bytes_max)
        self.octets: Column = np.frombuffer(bytes(row), np.uint8)


class Templates:
    """The templates of a connection, as of late: runs of one message repeat theirs."""

    __slots__ = ("_key", "_template")

    def __init__(self) -> None:
        self._key: tuple[Pieces, tuple[int, ...], bytes, int] | None = None
        self._template: Template | None = None

    def of(
        self,
        pieces: Pieces,
        variables: Sequence[Variable],
        columns: Sequence[Column],
        body: bytes | Bodies,
        frame_bytes_max: int,
    ) -> Template:
        """The template of rows with columns of these widths; bodies that differ make a new one each time."""
        widths = tuple([column.shape[1] for column in columns])
        if isinstance(body, Bodies):
            return Template(pieces, variables, widths, body, frame_bytes_max)
        key = (pieces, widths, body, frame_bytes_max)
        if self._template is None or self._key != key:
            template = Template(pieces, variables, widths, body, frame_bytes_max)
            if len(template.octets) > TEMPLATE_OCTETS_MAX:
                return template
            self._key, self._template = key, template
        return self._template


def uniform(first_stream: int, template: Template, columns: Sequence[Column], body: bytes | Bodies) -> memoryview:
    """HEADERS and DATA of rows of one length, row after row: numpy repeats the template and fills in the columns.

    The template's block must fit one frame, and so must bodies that differ.
    """
    rows = body.rows if isinstance(body, Bodies) else len(columns[0])
    if isinstance(body, Bodies):
        columns = [*columns, body.column]
    matrix = np.empty((rows, len(template.octets)), np.uint8)
    matrix[:] = template.octets
    streams = np.arange(first_stream, first_stream + 2 * rows, 2, dtype=STREAM_IDS).view(np.uint8).reshape(rows, 4)
    for offset in template.streams_at:
        matrix[:, offset : offset + 4] = streams
    for offset, column in zip(template.at, columns, strict=True):
        matrix[:, offset : offset + column.shape[1]] = column
    return matrix.data


class Columns(Sequence[Column]):
    """Columns whose octets are checked once, however many runs take parts of them; nobody writes to them any more."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[Column]) -> None:
        """LocalProtocolError for octets that no value may have (RFC 9113 section 8.2.1)."""
        if any(not each.size or each.min() < 0x21 or each.max() == 0x7F for each in columns):
            raise LocalProtocolError("a varying value has forbidden octets")
        self._columns: Sequence[Column] = columns

    @overload
    def __getitem__(self, at: int) -> Column: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Column]: ...

    def __getitem__(self, at: int | slice) -> Column | Sequence[Column]:
        return self._columns[at]

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns)

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self._columns)

    def part(self, begin: int, end: int | None = None) -> Columns:
        """The same of some rows."""
        part = object.__new__(Columns)
        part._columns = [column[begin:end] for column in self._columns]
        return part


def _data_streams(begin: int, body_bytes: int, frame_bytes_max: int) -> range:
    """Where the stream ids of a body's DATA frames stand."""
    count = -(-body_bytes // frame_bytes_max)
    step = frame_bytes_max + frames.HEADER_BYTES
    return range(begin + 5, begin + 5 + count * step, step)
