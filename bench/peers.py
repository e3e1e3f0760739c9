"""The same pushes by aioapns (PyPI) and @parse/node-apn (npm) against the same nghttpd in the same run as pushd.

Each client has core 0 for itself, the server core 1; every answer is read and must be a success. The peers are
installed into `bench/.cache` at pinned versions. aioapns finds its requests by the `apns-id` of the answer and parses
each DATA frame, where nghttpd sends no such header and empty frames: `peers_aioapns.py` lets it take the oldest request
and skip those, which costs it nothing. The ratio is pushd's rate over that of the fastest peer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import apns_wire, measure

AIOAPNS, UVLOOP, NODE_APN = "4.0", "0.23.0", "8.1.0"
"""Pinned versions."""
LINKS = 2
TRIES = 3
HERE = Path(__file__).parent


def run(quick: bool) -> dict[str, Any]:
    """The table of pushes per second and CPU per push; quick: about 40 s once the peers are installed."""
    measure.need("nghttpd", "taskset", "node", "npm")
    python, modules = _install_aioapns(), _install_node_apn()
    rounds = 2 if quick else 3
    commands = {
        "aioapns": ([python, str(HERE / "peers_aioapns.py")], 10_000 if quick else 40_000),
        "@parse/node-apn": (["node", str(HERE / "peers_node.js"), str(modules)], 50_000 if quick else 100_000),
    }
    own_pushes = 300_000 if quick else 1_000_000
    runs: dict[str, list[dict[str, Any]]] = {"pushd": [], **{name: [] for name in commands}}
    with apns_wire.apns_server() as far:
        for _ in range(rounds):
            runs["pushd"].append(apns_wire.pushd(far, own_pushes, LINKS))
            for name, (command, pushes) in commands.items():
                runs[name].append(_peer(far, command, pushes))
    rates = {name: measure.median([each["rate"] for each in done]) for name, done in runs.items()}
    costs = {name: measure.median([each["cpu_us"] for each in done]) for name, done in runs.items()}
    versions = {"pushd": measure.commit(), "aioapns": AIOAPNS, "@parse/node-apn": NODE_APN}
    return {
        "ratio": rates["pushd"] / max(rate for name, rate in rates.items() if name != "pushd"),
        "target": "times the rate of the fastest peer",
        "table": [
            {
                "client": name,
                "version": versions[name],
                "pushes/s": round(rate),
                "CPU µs/push": costs[name],
                "pushd is faster by": rates["pushd"] / rate,
            }
            for name, rate in sorted(rates.items(), key=lambda each: -each[1])
        ],
        "runs": rounds,
        **{f"{name}_per_s": round(rate) for name, rate in rates.items()},
        **{f"{name}_cpu_us": cost for name, cost in costs.items()},
    }


def _peer(far: apns_wire.Server, command: list[str], pushes: int) -> dict[str, Any]:
    """One run of a peer; a new one, up to a few, where its own time-outs made requests fail (node-apn: 1 in 10^4)."""
    for _ in range(TRIES):
        answer = measure.child_json([*command, str(far.facts_file), str(pushes)])
        if answer["accepted"] == pushes:
            break
    assert answer["accepted"] >= pushes * 0.99, answer
    return {"rate": answer["accepted"] / answer["seconds"], "cpu_us": answer["cpu_s"] / pushes * 1e6}


def _install_aioapns() -> str:
    """The interpreter of an environment that has aioapns."""
    home = measure.CACHE / f"aioapns-{AIOAPNS}"
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        packages = [f"aioapns=={AIOAPNS}", f"uvloop=={UVLOOP}"]
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *packages], check=True)
        (home / "installed").touch()
    return str(python)


def _install_node_apn() -> Path:
    """The folder of modules that has @parse/node-apn."""
    home = measure.CACHE / f"node-apn-{NODE_APN}"
    if not (home / "installed").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"name": "peers", "private": True}))
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"@parse/node-apn@{NODE_APN}"]
        subprocess.run(command, cwd=home, check=True)
        (home / "installed").touch()
    return home / "node_modules"
