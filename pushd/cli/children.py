"""Other pushd processes that a command starts, and that end with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack

from pushd.errors import UnavailableError

STOP_S = 35.0
LINE_BYTES_MAX = 1 << 20


class Child:
    """A `pushd` process; what it logs goes to our stderr."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self.ended = asyncio.ensure_future(process.wait())

    async def line(self, timeout_s: float) -> bytes:
        """The next line that it prints; UnavailableError when it ends or keeps silent instead."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise UnavailableError(f"pushd {self._name} did not start in {timeout_s:.0f} s") from None
        if not line:
            raise UnavailableError(f"pushd {self._name} ended with status {await self.ended}")
        return line

    async def stop(self) -> None:
        """Ends it: first politely."""
        if self.ended.done():
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self.ended


async def spawn(
    stack: AsyncExitStack, command: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Child:
    """A running `pushd COMMAND`, stopped when the stack is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pushd",
        command,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        env={**os.environ, **(environ or {})},
    )
    child = Child(process, command)
    stack.push_async_callback(child.stop)
    return child


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
