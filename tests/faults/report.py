"""What a long command says of itself: its figures with commit, machine, load and command, kept where asked for."""

import argparse
import json
import os
import secrets
import shlex
import sys
from datetime import UTC, datetime

import uvloop

from bench.__main__ import RESULTS
from bench.measure import commit, machine


def arguments(name, description):
    """The parser of `python -m tests.faults.NAME`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.faults.{name}", description=description)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run, as far as chance goes")
    parser.add_argument("--save", action="store_true", help="keeps the result in bench/results")
    return parser


def tell(name, given, target, work, kept=lambda _: True):
    """Runs `work(seed)`, prints what came of it; the exit status says whether `kept(figures)`.

    A broken promise ends the run before: `kept` is about bounds that depend on the machine.
    """
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}", file=sys.stderr)
    begun, load = datetime.now(UTC), os.getloadavg()[0]
    figures = uvloop.run(work(seed))
    result = {
        "name": f"faults_{name}",
        "target": target,
        "kept": bool(kept(figures)),
        "figures": figures,
        "command": _command(name, sys.argv[1:], seed),
        "commit": commit(),
        "machine": machine(),
        "load_average": {"before": round(load, 2), "after_1_5_15_min": [round(each, 2) for each in os.getloadavg()]},
        "begun": begun.isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"faults_{name}.json").write_text(text + "\n")
    return 0 if result["kept"] else 1


def _command(name, given, seed):
    """The command that was given, with the seed that it drew and without what does not change the run."""
    parts = [part for part in given if part != "--save"]
    return shlex.join(
        ["python", "-m", f"tests.faults.{name}", *parts, *([] if "--seed" in parts else ["--seed", str(seed)])]
    )
