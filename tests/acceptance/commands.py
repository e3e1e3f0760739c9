"""The command line within the test's process, against a daemon that runs there too."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import orjson
from typer.testing import CliRunner

from pushd.cli.program import program
from tests.acceptance.world import Client


async def pushd(client: Client, *arguments: str, prints: bool = True) -> Any:
    """What a command prints, with the client's key and against its daemon: here, not in a process for each."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        key.write_text(client.key or "")
        options = ["--url", client.base.removesuffix("/pushd/v1"), "--key-file", str(key), "--json"]
        done = await asyncio.to_thread(CliRunner().invoke, program, [*arguments, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if not prints:
        return None
    # The daemon is in this process, too: its log goes to the same place, each line after the time.
    return orjson.loads("".join(line for line in done.stdout.splitlines() if not line.startswith("20")))
