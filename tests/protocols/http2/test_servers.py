"""What nginx 1.22 and h2o 2.2 (Debian 12) really answer, octet by octet, cut at every point.

Each file in `captures` is what one connection sent: four octets that say how long its first part is, that part (its
SETTINGS and the answer to one push), then the answers to thirty pushes and, more than a second later, to thirty more.
nginx answers before it has read the body and resets the stream behind; h2o ignores SETTINGS_HEADER_TABLE_SIZE and is
spoken to without it (`table`), where nginx makes new entries with every block, so that none can be left unread. Of the
`mixed` ones some answers are 410 or 503. Decoded by `hyperframe` and `hpack`.
"""

from __future__ import annotations

from pathlib import Path

import hpack
import hyperframe.frame
import pytest

from protocols.http2 import Connection, ConnectionSettings

from .pair import SIMPLE, Summary, feed
from .test_fastpath import Counting, NoFastPath

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.bin"))
ROWS = 60


class Capture:
    """One connection's octets, and the statuses that independent decoders read in them."""

    def __init__(self, path: Path) -> None:
        octets = path.read_bytes()
        begin = 4 + int.from_bytes(octets[:4], "big")
        self.first, self.rest = octets[4:begin], octets[begin:]
        self.zero = "table" not in path.name
        self.repeats = path.stem != "nginx-1.22-table"
        self.statuses = statuses(self.first + self.rest)

    def client(self, *, fast: bool = True) -> Connection:
        """A client that has taken the first part and waits for the answers of sixty pushes."""
        client = Connection(ConnectionSettings(header_table_size_zero=self.zero))
        client.initiate()
        client.request_each(SIMPLE, [[b"first"]], b"", None)
        client.data_to_send()
        if not fast:
            client._reader._fast_path = NoFastPath()
        summary, _ = feed(client, [self.first])
        assert summary.statuses == {1: 200}
        client.request_each(SIMPLE, [[b"x"]] * ROWS, b"", None)
        client.data_to_send()
        return client

    def check(self, summary: Summary, client: Connection) -> None:
        """Every push has the status that the octets say, and the connection goes on."""
        assert {1: 200} | summary.statuses == self.statuses
        assert not summary.resets
        assert summary.error is None
        assert client.open_streams == 0


def statuses(octets: bytes) -> dict[int, int]:
    """By stream."""
    decoder, found, at = hpack.Decoder(), {}, 0
    while at < len(octets):
        frame, length = hyperframe.frame.Frame.parse_frame_header(memoryview(octets[at : at + 9]))
        frame.parse_body(memoryview(octets[at + 9 : at + 9 + length]))
        at += 9 + length
        if isinstance(frame, hyperframe.frame.HeadersFrame):
            found[frame.stream_id] = int(dict(decoder.decode(frame.data))[":status"])
    return found


@pytest.fixture(params=CAPTURES, ids=[path.stem for path in CAPTURES])
def capture(request):
    return Capture(request.param)


def test_every_push_is_answered(capture, monkeypatch):
    assert sorted(capture.statuses) == list(range(1, 2 * ROWS + 2, 2))
    counting = Counting(monkeypatch)
    client = capture.client()
    capture.check(feed(client, [capture.rest])[0], client)
    if set(capture.statuses.values()) == {200}:
        assert (counting.rows > ROWS // 2) is capture.repeats


def test_both_paths_agree(capture):
    for fast in (True, False):
        client = capture.client(fast=fast)
        capture.check(feed(client, [capture.rest])[0], client)


def test_cut_at_every_point(capture):
    for cut in range(1, len(capture.rest), 1 if capture.repeats else 13):  # 13 and 75 octets, record after record
        client = capture.client()
        capture.check(feed(client, [capture.rest[:cut], capture.rest[cut:]])[0], client)


@pytest.mark.parametrize("size", [1, 2, 13, 64, 74, 75, 500])
def test_cut_into_pieces(capture, size):
    client = capture.client()
    pieces = [capture.rest[at : at + size] for at in range(0, len(capture.rest), size)]
    capture.check(feed(client, pieces)[0], client)


def test_there_are_captures_of_every_sort():
    assert len(CAPTURES) == 5
    assert {410, 503} <= {status for path in CAPTURES for status in Capture(path).statuses.values()}
