"""`pushd` that counts what it holds on SIGUSR2, into the file that COUNTS names: `python -m tests.faults.counted`."""

import gc
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import orjson

VARIABLE = "COUNTS"


def count(*_):
    """Writes the objects by type that the garbage collector knows, and the blocks of all small objects."""
    gc.collect()
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    goal = Path(os.environ[VARIABLE])
    fresh = goal.with_suffix(".new")
    fresh.write_bytes(orjson.dumps({"types": types, "blocks": sys.getallocatedblocks()}))
    fresh.rename(goal)


if __name__ == "__main__":
    from pushd.cli import main

    signal.signal(signal.SIGUSR2, count)
    main()
