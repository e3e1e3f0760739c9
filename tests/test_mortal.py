"""What tests and benchmarks start ends with them, even where they are killed."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests import mortal

ROOT = Path(__file__).parents[1]
PARENT = """
import subprocess, time
from tests.mortal import mortal
print(subprocess.Popen(mortal("sleep", 600)).pid, flush=True)
time.sleep(600)
"""


def test_a_child_is_gone_when_its_parent_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    child.wait(10)  # psutil.TimeoutExpired where it lives on


def test_a_child_that_comes_too_late_does_not_begin():
    nobody = [sys.executable, mortal.__file__, "0", "echo", "begun"]
    done = subprocess.run(nobody, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (70, b"")
