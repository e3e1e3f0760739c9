"""A worker process that only encrypts: jobs on standard input, bodies on standard output, until its input ends.

Frames are columns behind a fixed head. A job: number, rows, padding and length of the text, then the text and the keys
of all rows. An answer: number, count of bad rows and length of the bodies, then the bad rows' numbers and the bodies.
While nothing waits, it makes key pairs ahead. It holds no secret of ours: public halves come in, bodies go out.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys

from pushd.gateways.webpush_seal import KEY_CHARS, KeyPairs, seal

JOB = struct.Struct("<IIII")
ANSWER = struct.Struct("<III")
ROW = struct.Struct("<I")
READ_BYTES = 1 << 18
PAIRS_PER_LOOK = 16
"""Pairs made between two looks at the input: a third of a millisecond."""


def job(number: int, keys: bytes, text: bytes, padding: int) -> bytes:
    """The frame of a job."""
    return JOB.pack(number, len(keys) // KEY_CHARS, padding, len(text)) + text + keys


def answer(number: int, bad: list[int], bodies: bytes) -> bytes:
    """The frame of an answer."""
    return b"".join((ANSWER.pack(number, len(bad), len(bodies)), *(ROW.pack(row) for row in bad), bodies))


def work(source: int, sink: int, pairs: KeyPairs) -> None:
    """Does jobs from one pipe to another until the first ends."""
    held = bytearray()
    while True:
        while (frame := _next(held)) is not None:
            number, keys, text, padding = frame
            bodies, bad = seal(keys, text, padding, pairs)
            _write(sink, answer(number, bad, bodies))
        while not pairs.full and not select.select((source,), (), (), 0)[0]:
            pairs.fill(PAIRS_PER_LOOK)
        data = os.read(source, READ_BYTES)
        if not data:
            return
        held += data


def _next(held: bytearray) -> tuple[int, bytes, bytes, int] | None:
    """The first job of what was read, taken off it; None while it is not whole."""
    if len(held) < JOB.size:
        return None
    number, rows, padding, length = JOB.unpack_from(held)
    end = JOB.size + length + rows * KEY_CHARS
    if len(held) < end:
        return None
    text, keys = bytes(held[JOB.size : JOB.size + length]), bytes(held[JOB.size + length : end])
    del held[:end]
    return number, keys, text, padding


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def main() -> None:
    """The process: its parent ends it, not the terminal; it leaves the cores to whoever needs them more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(int(sys.argv[2]))
    with contextlib.suppress(BrokenPipeError):  # its parent was killed
        work(0, 1, KeyPairs(int(sys.argv[1])))


if __name__ == "__main__":
    main()
