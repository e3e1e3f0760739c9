"""`pushd simulate` as its own process."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.mortal import mortal

PROGRAM = [sys.executable, "-m", "pushd", "simulate"]
PATIENCE_S = 60.0


def start(tmp_path, *options):
    ports = ["--port", "0", "--sandbox-port", "0", "--control-port", "0", "--others-port", "0"]
    return subprocess.Popen(
        mortal(*PROGRAM, "--state", tmp_path / "state", *ports, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def run(tmp_path):
    """Starts simulators that are gone after the test."""
    started = []

    def make(*options):
        started.append(start(tmp_path, *options))
        return started[-1]

    yield make
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


def ask(manifest, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{manifest['control_port']}{path}", timeout=5) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_prints_one_json_line_and_ends_on_a_signal(run, tmp_path, number):
    process = run("--json", "--fault", '{"action": {"type": "silence"}, "rate": 0.5}', "--latency-ms", "2")
    manifest = json.loads(process.stdout.readline())
    assert json.loads((tmp_path / "state" / "simulator.json").read_text()) == manifest
    assert manifest["pid"] == process.pid
    assert len({manifest[name] for name in ("production_port", "sandbox_port", "control_port")}) == 3
    assert ask(manifest, "/summary")["faults"] == 1
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output, errors) == (0, "", "")


def test_prints_for_people_and_ends_with_its_parent(tmp_path):
    """The parent in between is killed, as a crashed daemon would be."""
    program = [
        *PROGRAM,
        "--state",
        str(tmp_path),
        "--port",
        "0",
        "--sandbox-port",
        "0",
        "--control-port",
        "0",
        "--others-port",
        "0",
    ]
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *program, "--with-parent"], stdout=subprocess.PIPE, text=True
    )
    lines = [parent.stdout.readline() for _ in range(5)]
    assert lines[0].startswith("APNs production   https://127.0.0.1:")
    assert "SIMKEY0001" in lines[4]
    child = json.loads((tmp_path / "simulator.json").read_text())["pid"]
    parent.kill()
    parent.communicate(timeout=PATIENCE_S)  # returns once the child has closed its end as well
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and alive(child):
        time.sleep(0.02)
    assert not alive(child)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    "options",
    [
        ("--fault", "{"),
        ("--fault", '{"action": {"type": "explode"}}'),
        ("--latency-ms", "-1"),
        ("--fault", '{"action": {"type": "silence"}, "at": "connect"}'),
        ("--host", "192.0.2.1"),
    ],
)
def test_mistakes_are_one_message_and_a_status(run, options):
    process = run(*options)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (1, 2)
    assert output == ""
    assert errors
    assert "Traceback" not in errors
