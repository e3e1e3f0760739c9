"""What a gateway tells a link: how rows become requests, and what an answer means for rows and link."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from protocols.http2 import Answers, Connection, ConnectionSettings, GoAway, Received, Run
from pushd.transport.flights import Flight


class Advice(IntEnum):
    """What is to become of a link, the gravest last."""

    KEEP = 0
    """Nothing; of a link that drains: another one when rows come."""
    REPLACE = 1
    """It takes no more rows; another one takes its place at once."""
    BACK_OFF = 2
    """It takes no more rows; another one after the pool's back-off."""
    REFUSED = 3
    """The credential is refused: as BACK_OFF, and rows that wait in the pool go home with that reason."""


class Exchange(Protocol):
    """The gateway's side of one link: made with it, gone with it."""

    @property
    def settings(self) -> ConnectionSettings:
        """How the connection is to be set up."""

    @property
    def proven(self) -> bool:
        """Whether the gateway has taken this link's authentication."""

    @property
    def refusal(self) -> int:
        """The code of the reason for which the gateway refused the credential on this link; 0: it did not."""

    def condition(self) -> Advice:
        """Whether the link may go on as it is; asked before rows are put on it."""

    def room(self, outstanding: int) -> int:
        """How many rows may join those on the wire, apart from what HTTP/2 allows; one alone until proven (A-60)."""

    def encode(self, connection: Connection, flight: Flight, rows: int) -> Run:
        """The run that carries `rows` rows of the flight's load from its start on; the flight is its tag."""

    def classify(self, answers: Answers, received: Received) -> Advice:
        """Settles the rows of answers through their flight, and says what they mean for the link."""

    def goaway(self, goaway: GoAway) -> Advice:
        """What a GOAWAY means beyond draining."""

    def unanswered(self) -> Advice:
        """What rows without an answer in time mean for the link."""


def interrupted(refused: Sequence[int], answers: int) -> int:
    """How many refusals of a read came before its last acceptance: as failures in a row they do not count.

    Answers of a run stand in the order they came; `refused` says which of so many are refusals, in order.
    """
    ahead, end = len(refused), answers
    while ahead and refused[ahead - 1] == end - 1:
        ahead, end = ahead - 1, end - 1
    return ahead
