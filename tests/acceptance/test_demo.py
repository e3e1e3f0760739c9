"""`pushd demo`: one command from nothing to a true table of outcomes, and nothing left behind however it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import orjson
import pytest

from pushd.cli.demo_devices import PLATFORMS, dead, kind_of, mailboxes
from tests.faults.children import ROOT, environment, family, gone, put_away, scratch, using
from tests.mortal import mortal

PATIENCE_S = 90.0
DEVICES = 300
COLUMNS = ("accepted", "failed", "expired", "cancelled", "suppressed", "pending", "unregistered")


@asynccontextmanager
async def demo(*arguments):
    """A running `pushd demo`, leader of its process group like a command of a shell, and its temporary directory."""
    with scratch() as place:
        process = None
        try:
            with (place / "demo.log").open("ab") as log:
                tmp = place / "tmp"
                tmp.mkdir(mode=0o711)
                process = await asyncio.create_subprocess_exec(
                    *mortal(sys.executable, "-m", "pushd", "demo", "--devices", DEVICES, *arguments),
                    cwd=ROOT,
                    env=environment({}) | {"TMPDIR": str(tmp), "COLUMNS": "100"},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            yield process, tmp
        finally:
            await put_away(process)
            for each in using(tmp):
                each.kill()


async def leaves_nothing(process, tmp, signalled, *, group):
    """Ends a demo by a signal, given to it alone or to its whole process group as a terminal does."""
    processes = family(process.pid)
    assert len(processes) > 1
    if group:
        os.killpg(process.pid, signalled)
    else:
        process.send_signal(signalled)
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    left = await gone({*processes, *using(tmp)})
    assert not left, left
    assert not list(tmp.iterdir())
    log = (tmp.parent / "demo.log").read_text()
    assert "Traceback" not in log, log
    return said


@pytest.mark.asyncio
async def test_the_demo_ends_with_a_whole_table_that_fits_what_the_gateway_saw():
    async with demo("--json") as (process, tmp):
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0, (tmp.parent / "demo.log").read_text()
        result = orjson.loads(said)  # one object and nothing else
        assert not list(tmp.iterdir())
    assert result["whole"] is True
    assert result["devices"] == DEVICES
    broadcast, tagged, single, mail = result["sends"]
    assert (broadcast["targeted"], single["targeted"]) == (DEVICES - mailboxes(DEVICES), 2)
    assert mail["targeted"] == mail["accepted"] == mailboxes(DEVICES) > 0
    assert 0 < tagged["targeted"] <= DEVICES // 5
    for send in result["sends"]:
        assert send["pending"] == 0
        assert send["targeted"] == sum(send[column] for column in COLUMNS)
        assert send["targeted"] == sum(send["reasons"].values())
        assert send["per_second"] > 0
    assert broadcast["unregistered"] == dead(DEVICES)
    shares = {vendor: sum(kind_of(number) == vendor for number in range(DEVICES)) for vendor in PLATFORMS}
    for row in result["vendors"]:
        assert row["accepted"] == row["arrived"] >= shares[row["vendor"]] * 0.9 > 0
    assert {row["vendor"] for row in result["vendors"]} == {*PLATFORMS}
    assert sum(row["arrived"] for row in result["vendors"]) == sum(send["accepted"] for send in result["sends"])
    assert not result["violations"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("signalled", "group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["ctrl-c", "sigterm"],
)
async def test_a_kept_demo_answers_its_own_curl_lines_until_it_is_told_to_end(signalled, group):
    async with demo("--keep") as (process, tmp):
        printed = b""
        while b"in a browser" not in printed:
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            assert line, (tmp.parent / "demo.log").read_text()
            printed += line
        assert b"Every push is accounted for." in printed
        curls = [line.strip().decode() for line in printed.splitlines() if line.strip().startswith(b"curl ")]
        assert len(curls) >= 5
        for curl in curls:
            answer = await asyncio.to_thread(
                subprocess.run, f"{curl} --fail --silent --show-error --max-time 20", shell=True, capture_output=True
            )
            assert answer.returncode == 0, (curl, answer.stderr)
            assert answer.stdout
        assert process.returncode is None
        assert len(family(process.pid)) >= 4  # the demo, its gateway, the daemon, PostgreSQL
        await leaves_nothing(process, tmp, signalled, group=group)


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["apns", "data/postgresql/data.new"])
async def test_ctrl_c_while_the_demo_starts_leaves_nothing_behind(what):
    async with demo() as (process, tmp):
        async with asyncio.timeout(PATIENCE_S):
            while not list(tmp.glob(f"pushd-demo-*/{what}")):
                assert process.returncode is None
                await asyncio.sleep(0.005)
        await leaves_nothing(process, tmp, signal.SIGINT, group=True)
        assert process.returncode == 130
