"""Frames of requests: rows that are alike as one matrix of octets, rows that differ one by one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.http2 import frames
from protocols.http2.bodies import Bodies
from protocols.http2.encoding import Compiled, Pieces, integer
from protocols.http2.plans import Variable

Column = NDArray[np.uint8]
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


def uniform(
    first_stream: int,
    pieces: Pieces,
    variables: Sequence[Variable],
    columns: Sequence[Column],
    body: bytes | Bodies,
    frame_bytes_max: int,
) -> memoryview:
    """HEADERS and DATA of rows of one length, row after row.

    One row is laid out as a template with zeros where rows differ; numpy repeats it and fills in the columns. The block
    must fit one frame, and so must bodies that differ.
    """
    rows = body.rows if isinstance(body, Bodies) else len(columns[0])
    template, at = bytearray(frames.HEADER_BYTES), []
    template += pieces[0]
    for variable, column, piece in zip(variables, columns, pieces[1:], strict=True):
        width = column.shape[1]
        template += integer(len(variable.prefix) + width, 7, 0) + variable.prefix
        at.append(len(template))
        template += bytes(width) + piece
    flags = frames.END_HEADERS if body else frames.END_HEADERS | frames.END_STREAM
    template[: frames.HEADER_BYTES] = frames.head(len(template) - frames.HEADER_BYTES, frames.HEADERS, flags, 0)
    streams_at = [5]
    if body:
        if isinstance(body, Bodies):
            at.append(len(template) + frames.HEADER_BYTES + len(body.head))
            columns, body = [*columns, body.column], body.template
        streams_at += _data_streams(len(template), len(body), frame_bytes_max)
        template += frames.data(0, body, end_stream=True, frame_bytes_max=frame_bytes_max)
    matrix = np.empty((rows, len(template)), np.uint8)
    matrix[:] = np.frombuffer(template, np.uint8)
    streams = np.arange(first_stream, first_stream + 2 * rows, 2).astype(">u4").view(np.uint8).reshape(rows, 4)
    for offset in streams_at:
        matrix[:, offset : offset + 4] = streams
    for offset, column in zip(at, columns, strict=True):
        matrix[:, offset : offset + column.shape[1]] = column
    return matrix.data


def _data_streams(begin: int, body_bytes: int, frame_bytes_max: int) -> range:
    """Where the stream ids of a body's DATA frames stand."""
    count = -(-body_bytes // frame_bytes_max)
    step = frame_bytes_max + frames.HEADER_BYTES
    return range(begin + 5, begin + 5 + count * step, step)
