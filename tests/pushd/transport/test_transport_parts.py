"""The parts of links and pools that need no socket: pace, queue, outbox, flights."""

import asyncio

import numpy as np
import pytest

from protocols.http2 import Received, Run
from pushd import outcome
from pushd.config import TransportConfig
from pushd.transport.flights import Flight, Flights
from pushd.transport.outbox import Outbox
from pushd.transport.pace import Pace
from pushd.transport.queue import Load, Queue, Sending
from tests.pushd.transport.far_sides import batch_of

CONFIG = TransportConfig(connect_backoff_base_s=1.0, connect_backoff_cap_s=60.0, connects_per_minute_max=5)


def test_a68_back_off_doubles_with_jitter_up_to_its_cap():
    pace = Pace(CONFIG)
    assert pace.next_at(100.0) == 100.0
    for failures in range(1, 12):
        pace.failed(100.0)
        ceiling = min(60.0, 2.0 ** (failures - 1))
        assert ceiling / 2 <= pace.next_at(100.0) - 100.0 <= ceiling
    assert pace.failures == 11
    pace.proved()
    assert (pace.next_at(100.0), pace.failures) == (100.0, 0)


def test_a68_connects_are_capped_per_minute():
    pace = Pace(CONFIG)
    for second in range(5):
        assert pace.next_at(second) == second
        pace.started(second)
    assert pace.next_at(5.0) == 60.0
    pace.started(60.0)
    assert pace.next_at(60.5) == 61.0


def sending(rows):
    return Sending(batch_of(rows), asyncio.get_running_loop().create_future())


def load(of, rows=None, uniform=True):
    rows = np.arange(len(of.batch)) if rows is None else np.array(rows)
    return Load(of, rows, None, 2, uniform=uniform)


@pytest.mark.asyncio
async def test_queue_hands_out_rows_in_order_and_counts_them():
    first, second, queue = sending(5), sending(3), Queue()
    queue.put(load(first, [4, 2, 0]), 1.0)
    queue.put(load(second), 2.0)
    assert queue.rows == 6
    head = queue.head()
    assert (queue.take(2), head.left, queue.rows) == (0, 1, 4)
    assert queue.take(1) == 2
    assert queue.head().sending is second
    head.settle(np.array([0, 2]), outcome.ACCEPTED.code)
    assert first.batch.outcomes.tolist() == [1, 0, 0, 0, 1]
    assert first.pending == 3


@pytest.mark.asyncio
async def test_queue_forgets_one_batch_and_leaves_the_others():
    first, second, queue = sending(5), sending(3), Queue()
    queue.put(load(first), 1.0)
    queue.put(load(second), 1.0)
    queue.put(load(first, []), 1.0)
    queue.take(2)
    queue.drop(first, outcome.NOT_WRITTEN.code)
    assert queue.rows == 3
    assert first.batch.outcomes.tolist() == [0, 0, 2, 2, 2]
    queue.drop_all(outcome.NO_CONNECTION.code)
    assert (queue.rows, queue.head()) == (0, None)
    assert second.done.done()
    assert not first.done.done()


@pytest.mark.asyncio
async def test_a_batch_without_pending_rows_is_done_at_once():
    batch = batch_of(2)
    batch.settle_pending(outcome.EXPIRED.code)
    done = asyncio.get_running_loop().create_future()
    Sending(batch, done)
    assert done.done()


class Socket:
    """What the outbox needs of a transport."""

    def __init__(self):
        self.written = b""
        self.ended = ""
        self.outbox = None
        self.full_at = None

    def set_write_buffer_limits(self, high):
        self.high = high

    def write(self, data):
        self.written += bytes(data)
        if self.full_at is not None and len(self.written) >= self.full_at:
            self.outbox.paused = True

    def is_closing(self):
        return bool(self.ended)

    def close(self):
        self.ended = "closed"

    def abort(self):
        self.ended = self.ended or "aborted"


@pytest.mark.asyncio
async def test_a74_outbox_stops_where_the_socket_is_full_and_knows_what_it_kept():
    outbox, socket = Outbox(10, 100), Socket()
    socket.outbox, socket.full_at = outbox, 25
    outbox.put(b"a" * 4)
    outbox.flush()  # no socket yet
    outbox.open(socket)
    outbox.put(b"b" * 40)
    outbox.flush()
    assert (outbox.queued, outbox.handed, outbox.full) == (44, 34, True)
    socket.full_at, outbox.paused = None, False
    outbox.flush()
    assert (outbox.handed, outbox.full) == (44, False)
    assert socket.written == b"a" * 4 + b"b" * 40


@pytest.mark.asyncio
async def test_outbox_ends_with_a_last_word_where_it_can():
    outbox, socket = Outbox(10, 100), Socket()
    outbox.open(socket)
    outbox.end(b"bye", 0.01)
    assert (socket.written, socket.ended) == (b"bye", "closed")
    outbox.end(b"again", 0.01)
    assert socket.written == b"bye"
    full, wall = Outbox(10, 100), Socket()
    full.open(wall)
    full.paused = True
    full.end(b"bye", 0.01)
    assert (wall.written, wall.ended) == (b"", "aborted")


def flight_of(of, start, count, begin, end, uniform=True):
    flight = Flight(load(of, uniform=uniform), start, 10.0)
    flight.begin, flight.end, flight.alone = begin, end, True
    flight.run = Run(1, count, flight)
    return flight


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("handed", "unwritten_from"),
    [(0, 0), (100, 0), (101, 1), (150, 1), (151, 2), (599, 10), (600, 10), (9_999, 10)],
)
async def test_a65_rows_of_which_no_byte_was_handed_on(handed, unwritten_from):
    flight = flight_of(sending(10), 0, 10, 100, 600)
    assert flight.unwritten_from(handed) == unwritten_from


@pytest.mark.asyncio
async def test_a65_rows_that_differ_in_length_count_as_one():
    flight = flight_of(sending(10), 0, 10, 100, 600, uniform=False)
    assert [flight.unwritten_from(handed) for handed in (100, 101, 600)] == [0, 10, 10]


@pytest.mark.asyncio
async def test_a_lost_link_settles_every_row_once():
    of, flights = sending(10), Flights()
    flights.add(flight_of(of, 0, 5, 0, 500))
    flights.add(flight_of(of, 5, 5, 500, 1_000))
    assert (flights.rows, len(flights), flights.deadline) == (10, 2, 10.0)
    flights.lose(700, outcome.CONNECTION_LOST)
    assert of.batch.outcomes.tolist() == [6] * 7 + [2] * 3
    assert of.done.done()
    assert (flights.rows, flights.deadline) == (0, None)


@pytest.mark.asyncio
async def test_overdue_rows_are_lost_and_reset():
    of, flights = sending(4), Flights()
    late, early = flight_of(of, 0, 2, 0, 10), flight_of(of, 2, 2, 10, 20)
    early.deadline = 99.0
    flights.add(late)
    flights.add(early)
    oldest = late.run
    ((run, rows),) = flights.overdue(10.0)
    assert (run, rows.tolist()) == (oldest, [0, 1])
    assert of.batch.outcomes.tolist() == [outcome.RESPONSE_TIMEOUT.code] * 2 + [0, 0]
    assert flights.overdue(10.0) == []


@pytest.mark.asyncio
async def test_resets_and_goaway_settle_their_rows():
    of, flights = sending(6), Flights()
    flight = flight_of(of, 0, 6, 0, 60)
    flights.add(flight)
    received = Received()
    received.resets = [(flight.run, np.array([0]), 7), (flight.run, np.array([1]), 2)]
    received.unprocessed = [(flight.run, np.array([4, 5]))]
    flights.refused(received, outcome.ABOVE_GOAWAY.code)
    assert of.batch.outcomes.tolist() == [3, 8, 0, 0, 4, 4]
