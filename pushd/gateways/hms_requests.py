"""HMS requests of a batch: rows that share a message, up to a thousand tokens each, joined without JSON per row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols import hms
from pushd.batch import Rendered
from pushd.transport.queue import Sending


@dataclass(slots=True, eq=False)
class Request:
    """One request: the rows that it is for and what it says; its body is made when it goes out."""

    sending: Sending
    rows: NDArray[np.intp]
    framed: bytes
    again: bool = False
    """Whether it went out before, with an access token that was refused."""
    put_at: float = 0.0

    def body(self) -> bytes:
        """The octets to post: every token once (H-04)."""
        return hms.body(self.framed, list(dict.fromkeys(self.sending.batch.tokens[self.rows].tolist())))

    def settle(self, code: int) -> None:
        """Gives every row of it this code."""
        self.sending.settle(self.rows, code)


def requests(sending: Sending, tokens_max: int, bad_token: int) -> Iterator[Request]:
    """The requests of a batch; rows whose token could never be one are settled at once."""
    batch = sending.batch
    pending = np.flatnonzero(batch.outcomes == 0)
    good = np.array([hms.is_token(token) for token in batch.tokens[pending].tolist()], np.bool_)
    if not good.all():
        sending.settle(pending[~good], bad_token)
        pending = pending[good]
    if isinstance(batch.payloads, Rendered):
        yield from _parts(sending, pending, batch.payloads.payload, tokens_max)
        return
    alike: dict[bytes, list[int]] = {}
    for row in pending.tolist():
        alike.setdefault(batch.payloads[row].payload, []).append(row)
    for framed, rows in alike.items():
        yield from _parts(sending, np.array(rows, np.intp), framed, tokens_max)


def _parts(sending: Sending, rows: NDArray[np.intp], framed: bytes, tokens_max: int) -> Iterator[Request]:
    for at in range(0, len(rows), tokens_max):
        yield Request(sending, rows[at : at + tokens_max], framed)
