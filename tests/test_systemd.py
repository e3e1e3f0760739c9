"""The unit: valid, hardened, and with a watchdog that the daemon's own deadlines fit."""

import re
import shutil
import subprocess
from pathlib import Path

UNIT = Path(__file__).parent.parent / "systemd" / "pushd.service"
EXPOSURE_MAX = 1.2


def analyze(*arguments):
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is needed: tests/run installs it"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_unit_is_hardened():
    done = analyze("security", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for pushd\.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found.group(1)) <= EXPOSURE_MAX


def test_the_unit_is_valid(tmp_path):
    program = tmp_path / "pushd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "pushd.service"
    unit.write_text(UNIT.read_text().replace("/opt/pushd/bin/pushd", str(program)).replace("Documentation=", "#"))
    done = analyze("verify", "--man=no", str(unit))
    assert "Unknown" not in done.stderr, done.stderr
    assert str(unit.name) + ":" not in done.stderr, done.stderr


def test_it_is_a_notify_service_with_a_watchdog_and_a_credential():
    text = UNIT.read_text()
    for line in ("Type=notify", "WatchdogSec=20", "LoadCredential=master_key:/etc/pushd/master_key", "Restart=always"):
        assert f"\n{line}\n" in text
    stop = int(re.search(r"TimeoutStopSec=(\d+)", text).group(1))
    assert stop > 30, "the daemon ends within 30 s by itself"
