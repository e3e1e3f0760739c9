"""Limits that change under way: a judge holds every octet against what was acknowledged (A-61, T-02 to T-04)."""

from __future__ import annotations

import random
from collections import deque

import hpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http2 import Connection, ConnectionSettings, frames

from .pair import PLAN, SIMPLE, column, columns, cut_frames, head

DEFAULTS = {
    frames.HEADER_TABLE_SIZE: 4096,
    frames.MAX_CONCURRENT_STREAMS: 2**31,
    frames.INITIAL_WINDOW_SIZE: 65_535,
    frames.MAX_FRAME_SIZE: 16_384,
}


class Judge:
    """A server that does nothing but count. SETTINGS bind the client from its acknowledgement on, in order."""

    def __init__(self) -> None:
        self.settings = dict(DEFAULTS)
        self.pending: deque[dict[int, int]] = deque()
        self.decoder = hpack.Decoder()
        self.window = 65_535
        self.windows: dict[int, int] = {}
        """By stream whose request is unfinished."""
        self.open: dict[int, bool] = {}
        """By stream that is not closed: whether its request is whole."""
        self.answered: set[int] = set()
        self.last = -1
        self.out = b""

    def change(self, entries: dict[int, int]) -> None:
        self.pending.append(entries)
        self.out += frames.settings(entries.items())

    def credit(self, stream: int, increment: int) -> None:
        if stream:
            self.windows[stream] += increment
        else:
            self.window += increment
        self.out += frames.window_update(stream, increment)

    def answer(self, stream: int, refuse: bool) -> None:
        if refuse:
            self.out += frames.rst_stream(stream, 7)
            del self.open[stream]
            self.windows.pop(stream, None)
        else:
            self.out += head(stream, b"\x88", last=True)
            self.answered.add(stream)
            if self.open[stream]:
                del self.open[stream]

    def take(self, octets: bytes) -> None:
        """Judges what the client sent."""
        for kind, flags, stream, payload in cut_frames(octets):
            assert len(payload) <= self.settings[frames.MAX_FRAME_SIZE]
            if kind == frames.SETTINGS and flags & frames.ACK:
                self._bind(self.pending.popleft())
            elif kind == frames.HEADERS:
                assert stream > self.last
                assert stream % 2 == 1
                assert len(self.open) < self.settings[frames.MAX_CONCURRENT_STREAMS]
                self.last = stream
                self.open[stream] = bool(flags & frames.END_STREAM)
                self.windows[stream] = self.settings[frames.INITIAL_WINDOW_SIZE]
                assert flags & frames.END_HEADERS
                assert self.decoder.decode(payload, raw=True)[0] == (b":method", b"POST")
            elif kind == frames.DATA:
                self.window -= len(payload)
                assert self.window >= 0
                if stream in self.open:  # else it was refused while this was under way
                    assert not self.open[stream]
                    self.windows[stream] -= len(payload)
                    assert self.windows[stream] >= 0 or not payload
                    self.open[stream] = bool(flags & frames.END_STREAM)
            elif kind == frames.RST_STREAM:
                self.open.pop(stream, None)
                self.windows.pop(stream, None)
            elif kind == frames.PING and not flags:
                self.out += frames.frame(frames.PING, frames.ACK, 0, payload)
            if stream in self.answered and self.open.get(stream):
                del self.open[stream]

    def _bind(self, entries: dict[int, int]) -> None:
        delta = entries.get(frames.INITIAL_WINDOW_SIZE, self.settings[frames.INITIAL_WINDOW_SIZE])
        delta -= self.settings[frames.INITIAL_WINDOW_SIZE]
        self.windows = {stream: window + delta for stream, window in self.windows.items()}
        self.settings |= entries
        self.decoder.max_allowed_table_size = self.settings[frames.HEADER_TABLE_SIZE]


CHANGES = {
    frames.HEADER_TABLE_SIZE: [0, 60, 500, 4096, 2**20],
    frames.MAX_CONCURRENT_STREAMS: [0, 1, 7, 40, 300],
    frames.INITIAL_WINDOW_SIZE: [0, 10, 700, 65_535, 2**20],
    frames.MAX_FRAME_SIZE: [16_384, 20_000, 2**20],
}


def converse(rng: random.Random, client: Connection, judge: Judge) -> None:
    """One turn, in which either direction may lag behind."""
    if rng.random() < 0.4:
        keys = rng.sample(list(CHANGES), rng.randint(1, 3))
        judge.change({key: rng.choice(CHANGES[key]) for key in keys})
    if rng.random() < 0.5:
        judge.credit(0, rng.randint(1, 100_000))
    waiting = [stream for stream, whole in judge.open.items() if stream not in judge.answered]
    for stream in rng.sample(waiting, min(len(waiting), rng.randint(0, 12))):
        judge.answer(stream, refuse=rng.random() < 0.2)
    for stream in [stream for stream, whole in judge.open.items() if not whole and rng.random() < 0.5]:
        judge.credit(stream, rng.randint(1, 30_000))
    if rng.random() < 0.6:
        octets, judge.out = judge.out, b""
        client.receive(octets)
    size = rng.choice([0, 5, 900, 30_000, 70_000])
    rows = min(client.room(size), rng.randint(0, 15))
    if rows and rng.random() < 0.5:
        client.request_uniform(PLAN, columns(rows), b"u" * size, None)
    elif rows:
        bodies = [b"e" * rng.randint(0, size) for _ in range(rows)]
        client.request_each(SIMPLE, [[b"v" * rng.randint(1, 90)] for _ in range(rows)], bodies, None)
    for run in client._registry.runs:
        if rng.random() < 0.02:
            client.reset(run, run.outstanding()[: rng.randint(0, 3)])
    if rng.random() < 0.6:
        judge.take(client.data_to_send())


@settings(max_examples=120)
@given(st.integers(0, 2**40))
def test_a61_t02_t03_t04_no_acknowledged_limit_is_ever_passed(seed):
    rng = random.Random(seed)
    client, judge = Connection(ConnectionSettings()), Judge()
    client.initiate()
    client._responses.decoder.stateless = True  # the judge answers with static entries alone
    judge.change({frames.MAX_CONCURRENT_STREAMS: 50})
    for _ in range(40):
        converse(rng, client, judge)
    # In the end all is granted, and nothing is left behind.
    judge.change({frames.MAX_CONCURRENT_STREAMS: 100, frames.INITIAL_WINDOW_SIZE: 2**20})
    judge.credit(0, 2**24)
    for _ in range(6):
        for stream in [stream for stream in judge.open if stream not in judge.answered]:
            judge.answer(stream, refuse=False)
        octets, judge.out = judge.out, b""
        client.receive(octets)
        judge.take(client.data_to_send())
    assert (judge.open, client.open_streams, client._windows.uploads) == ({}, 0, {})
    assert client.window == judge.window
    assert client.room(1) == 100
    run = client.request_uniform(SIMPLE, [column([b"a", b"b"])], b"!", None)
    judge.take(client.data_to_send())
    client.reset(run, np.array([1]))
    judge.take(client.data_to_send())
    assert len(judge.open) == 1
