"""Failures of our own below the fan-out: they end one link or one batch, and every row still gets an outcome."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from structlog.testing import capture_logs

from pushd import outcome
from pushd.transport.link import IMPOSSIBLE_ROWS
from tests.pushd.transport.far_sides import (
    SETTINGS,
    SETTINGS_ACK,
    PlainExchange,
    batch_of,
    frame,
    frames,
    loads,
    push,
    raw_pool,
)

pytestmark = pytest.mark.asyncio

HEADERS, SETTING = 1, 4
ACCEPTED, LOST, UNWRITTEN = outcome.ACCEPTED.code, outcome.CONNECTION_LOST.code, outcome.NOT_WRITTEN.code
IMPOSSIBLE, FAILED = outcome.REQUEST_IMPOSSIBLE.code, outcome.INTERNAL_ERROR.code


def accepting(settings=SETTINGS, later=b""):
    """A server that accepts everything; after its first answer it says `later`."""

    async def script(reader, writer):
        writer.write(settings + SETTINGS_ACK)
        first = True
        async for kind, _, stream, _ in frames(reader):
            if kind == HEADERS:
                writer.write(frame(HEADERS, 5, stream, b"\x20\x88" if first else b"\x88"))
                if first:
                    writer.write(later)
                first = False

    return script


@asynccontextmanager
async def far(tmp_path, exchange=PlainExchange, script=None, **rest):
    """A pool to a server that accepts, and what was logged as our failure."""
    with capture_logs() as logs:
        async with raw_pool(script or accepting(), tmp_path, exchange=exchange, **rest) as (raw, pool):
            yield pool, raw, lambda: [entry for entry in logs if entry["event"] == "callback_failed"]
            assert pool.outstanding == pool.waiting == 0


def failing(method, times=1):
    """An exchange whose method fails so many times, whatever the link."""
    left = [times]

    class Failing(PlainExchange):
        pass

    def broken(self, *given):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("ours")
        return getattr(super(Failing, self), method)(*given)

    setattr(Failing, method, broken)
    return Failing


@pytest.mark.parametrize(
    ("method", "codes"),
    [("encode", {FAILED}), ("classify", {LOST}), ("condition", {ACCEPTED}), ("room", {ACCEPTED})],
)
async def test_a_failure_in_a_link_ends_that_link_and_its_rows_get_an_outcome(tmp_path, method, codes):
    async with far(tmp_path, failing(method)) as (pool, raw, failures):
        assert set((await push(pool, 20)).outcomes.tolist()) == codes
        assert set((await push(pool, 20)).outcomes.tolist()) == {ACCEPTED}
        assert len(failures()) == 1
        assert raw.connections == 2


async def test_rows_that_were_answered_but_not_understood_are_lost_and_not_forgotten(tmp_path):
    """The peer's answers to two batches come in one read; the second cannot be classified."""
    seen = []

    class Exchange(PlainExchange):
        def classify(self, answers, received):
            seen.append(len(answers.rows))
            if len(seen) == 2:
                raise RuntimeError("ours")
            return super().classify(answers, received)

    async def script(reader, writer):
        writer.write(SETTINGS + SETTINGS_ACK)
        streams = []
        async for kind, _, stream, _ in frames(reader):
            if kind == HEADERS:
                streams.append(stream)
            if len(streams) == 6:
                first = frame(HEADERS, 5, streams[0], b"\x20\x88")
                writer.write(first + b"".join(frame(HEADERS, 5, each, b"\x88") for each in streams[1:]))
                streams = []

    async with far(tmp_path, Exchange, script) as (pool, _, failures):
        one, two = await asyncio.wait_for(asyncio.gather(push(pool, 3), push(pool, 3)), 60)
        assert sorted({*one.outcomes.tolist(), *two.outcomes.tolist()}) == [ACCEPTED, LOST]
        assert len(failures()) == 1


async def test_a_failure_of_a_links_timer_ends_that_link(tmp_path, monkeypatch):
    async def silent(reader, writer):
        writer.write(SETTINGS + SETTINGS_ACK)
        await reader.read()

    async with far(tmp_path, script=silent) as (pool, _, failures):
        monkeypatch.setattr("pushd.transport.link.Link._ping_if_silent", lambda *_: 1 / 0)
        assert set((await push(pool, 5)).outcomes.tolist()) == {LOST}
        assert {entry["part"] for entry in failures()} == {"link"}


async def test_a_failure_of_the_pool_uses_up_an_attempt_of_what_waits_and_the_pool_goes_on(tmp_path, monkeypatch):
    async with far(tmp_path) as (pool, _, failures):
        monkeypatch.setattr(pool, "_balance", lambda: 1 / 0)
        assert set((await push(pool, 5)).outcomes.tolist()) == {FAILED}
        monkeypatch.undo()
        assert set((await push(pool, 5)).outcomes.tolist()) == {ACCEPTED}
        assert len(failures()) == 1


async def test_a_batch_that_cannot_be_made_into_loads_ends_alone(tmp_path):
    def prepare(sending):
        for load in loads(sending):
            load.rows = load.rows[:2]
            yield load
        raise RuntimeError("ours")

    async with far(tmp_path) as (pool, _, failures):
        broken, whole = batch_of(5), batch_of(5)
        await asyncio.wait_for(asyncio.gather(pool.send(broken, prepare), pool.send(whole, loads)), 60)
        assert broken.outcomes.tolist() == [FAILED] * 5
        assert whole.outcomes.tolist() == [ACCEPTED] * 5
        assert len(failures()) == 1


async def test_a_failure_while_dialling_is_a_failed_connect(tmp_path):
    class Resolver:
        async def resolve(self, host, port):
            raise RuntimeError("ours")

    async with far(tmp_path, resolver=Resolver()) as (pool, raw, failures):
        assert set((await push(pool, 5)).outcomes.tolist()) == {outcome.NO_CONNECTION.code}
        assert 1 <= len(failures()) <= 12, "it is paced as any failed connect"
        assert raw.connections == 0


# -- rows that cannot be encoded


def with_bad_rows(rows, bad):
    batch = batch_of(rows)
    batch.tokens[list(bad)] = b"a space in a token of sixty-four octets, which no header can bear"[:64]
    return batch


@pytest.mark.parametrize("bad", [{0}, {37}, {99}, {3, 4, 50, 98}])
async def test_a_row_that_cannot_be_encoded_is_rejected_alone(tmp_path, bad):
    async with far(tmp_path) as (pool, raw, failures):
        batch = with_bad_rows(100, bad)
        await asyncio.wait_for(pool.send(batch, loads), 60)
        assert set(np.flatnonzero(batch.outcomes == IMPOSSIBLE).tolist()) == bad
        assert np.count_nonzero(batch.outcomes == ACCEPTED) == 100 - len(bad)
        assert (raw.connections, failures()) == (1, [])


async def test_when_no_row_can_be_encoded_all_are_rejected_and_the_link_stays(tmp_path):
    rows = 3 * IMPOSSIBLE_ROWS
    async with far(tmp_path) as (pool, raw, _):
        assert set((await push(pool, 1)).outcomes.tolist()) == {ACCEPTED}
        batch = with_bad_rows(rows, range(rows))
        await asyncio.wait_for(pool.send(batch, loads), 60)
        assert set(batch.outcomes.tolist()) == {IMPOSSIBLE}
        assert set((await push(pool, 50)).outcomes.tolist()) == {ACCEPTED}
        assert raw.connections == 1


def header_list_max(octets):
    return frame(SETTING, body=b"\x00\x06" + octets.to_bytes(4, "big"))


async def test_t14_a_peer_that_takes_no_headers_of_ours_is_left_and_the_rows_may_go_elsewhere(tmp_path):
    async with far(tmp_path, script=accepting(header_list_max(60)), queue_timeout_s=0.4) as (pool, _, failures):
        codes = set((await push(pool, 5)).outcomes.tolist())
        # The row of the first request, before any SETTINGS came, may have gone out.
        assert codes <= {ACCEPTED, UNWRITTEN, outcome.NO_CONNECTION.code, LOST}
        assert IMPOSSIBLE not in codes
        assert failures() == []


async def test_t14_where_a_peer_took_others_a_row_with_too_long_headers_is_rejected(tmp_path):
    script = accepting(later=header_list_max(60))
    async with far(tmp_path, script=script) as (pool, raw, _):
        assert set((await push(pool, 1)).outcomes.tolist()) == {ACCEPTED}
        await asyncio.sleep(0.05)
        assert set((await push(pool, 5)).outcomes.tolist()) == {IMPOSSIBLE}
        assert raw.connections == 1
