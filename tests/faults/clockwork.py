"""Time that the test sets: `CLOCKWORK=FILE python -m tests.faults.clockwork serve` is a daemon that goes by it.

The product knows nothing of it: what its clock answers is read from a file that all processes of a test have mapped.
Time stands still, or runs so many times as fast as the machine's; nobody sees a moment of it twice.
"""

import mmap
import os
import struct
import time

VARIABLE = "CLOCKWORK"
_NUMBERS = struct.Struct("ddd")
"""UNIX seconds, at which of the machine's monotonic seconds, and how much faster than those it goes on."""


class Clockwork:
    """The face of pushd's clock."""

    def __init__(self, file):
        file.touch()
        with file.open("r+b") as opened:
            opened.truncate(_NUMBERS.size)
            self._memory = mmap.mmap(opened.fileno(), _NUMBERS.size)

    def set(self, at, speed=0.0):
        """Shows a time from now on."""
        _NUMBERS.pack_into(self._memory, 0, at, time.monotonic(), speed)

    def now(self):
        at, begun, speed = _NUMBERS.unpack_from(self._memory)
        return at + (time.monotonic() - begun) * speed if speed else at

    def monotonic(self):
        return time.monotonic()


if __name__ == "__main__":
    from pathlib import Path

    from pushd.cli import main
    from pushd.clock import SystemClock
    from tests.faults import failpoints

    clock = Clockwork(Path(os.environ[VARIABLE]))
    SystemClock.now = lambda _: clock.now()
    if os.environ.get(failpoints.VARIABLE):
        failpoints.arm(os.environ[failpoints.VARIABLE])
    main()
