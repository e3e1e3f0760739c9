"""What every benchmark shares: the machine, the commit, CPU time of processes, medians, pinned child processes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.mortal import mortal

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(__file__).resolve().parent / ".cache"
"""Where benchmarks keep what they download; not part of the repository."""
CLIENT_CORE, SERVER_CORE = 0, 1


class Usage(NamedTuple):
    """What a piece of work took."""

    seconds: float
    cpu_s: float


def machine() -> dict[str, Any]:
    """The machine as far as figures depend on it; nothing that names it."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        # With the time of its build: one without profile-guided optimisation takes a third longer for the same.
        "python": f"{platform.python_version()}, built {platform.python_build()[1]}",
    }


def commit() -> str:
    """The commit of the sources, with `+` when files of it were changed; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number, the mean of the two in the middle."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def need(*programs: str) -> None:
    """Ends the process with a hint when a program that the benchmark compares with is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(
            f"missing {', '.join(missing)}: install them first"
            " (Debian: apt install nghttp2-client nghttp2-server h2o nginx)"
        )


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command bound to one core."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)


def child(command: Sequence[str], *, core: int = CLIENT_CORE, timeout_s: float = 600.0) -> tuple[str, Usage]:
    """Standard output of a child process pinned to a core, and its wall and CPU time from start to end."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        pinned(core, command), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, Usage(seconds, cpu_s)


def child_json(command: Sequence[str], *, core: int = CLIENT_CORE, timeout_s: float = 600.0) -> dict[str, Any]:
    """The last line that a child process printed, as an object."""
    output, _ = child(command, core=core, timeout_s=timeout_s)
    answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return answer


@contextlib.contextmanager
def server(
    command: Sequence[str],
    port: int,
    *,
    core: int = SERVER_CORE,
    wait_s: float = 10.0,
    environ: Mapping[str, str] | None = None,
    errors: str | Path = os.devnull,
) -> Iterator[int]:
    """A server process pinned to a core, from when it listens on `port` of the loopback; its process id.

    `errors` is the file for what it writes to standard error; `environ` is added to ours.
    """
    with Path(errors).open("ab") as log:
        process = subprocess.Popen(
            mortal(*pinned(core, command)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **(environ or {})},
        )
    try:
        _await_port(process, port, wait_s)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_pinned(work: Callable[[Path], Coroutine[Any, Any, T]], core: int) -> T:
    """What the work comes to, in a directory of its own, on uvloop, with this process on one core if that is there."""
    import structlog
    import uvloop

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.sched_setaffinity(0, {core} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="pushd-bench-") as name:
        root = Path(name)
        root.chmod(0o711)  # as root, PostgreSQL runs as another user, who has to pass through
        return uvloop.run(work(root))


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_family(pid: int) -> float:
    """CPU seconds that a process, its children and those that ended have used; of our own process, only its own."""
    if pid == os.getpid():
        return cpu_of(pid)
    total = 0.0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += cpu_of_family(int(child))
    return total


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _await_port(process: subprocess.Popen[bytes], port: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
