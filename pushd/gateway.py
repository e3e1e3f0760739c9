"""The contract of every gateway: `send` fills the outcomes of a batch, and nothing else is decided here."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pushd.batch import Batch, Lane
from pushd.model.device import GatewayName, Route
from pushd.outcome import Outcome, Reason, Reasons


class Proof(NamedTuple):
    """What a gateway says of a credential, asked without sending anything to anyone."""

    accepted: bool | None
    """None: it could not be asked."""
    reason: str
    """In the gateway's words, or in ours where it said nothing."""

    @classmethod
    def of(cls, reason: Reason) -> Proof:
        """What the answer to a request that can reach nobody proves: to judge it, the gateway let us in first."""
        if reason.outcome is Outcome.MISCONFIGURED:
            return cls(False, reason.name)
        return cls(True if reason.outcome in _LET_IN else None, reason.name)


_LET_IN = frozenset({Outcome.ACCEPTED, Outcome.UNREGISTERED, Outcome.REJECTED})


class Gateway(Protocol):
    """One way out of pushd. It says what became of each row; retry, pause and retirement are the fan-out's."""

    name: GatewayName
    reasons: Reasons
    """What each byte of `Batch.outcomes` means."""

    async def start(self) -> None:
        """Makes the gateway ready; connections are opened when rows come."""

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for answers, then closes every link."""

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending: outcomes, `retry_after`, `alone` and `invalid_since` are filled.

        Never raises for a row. When the caller cancels it, rows that no link took yet become unprocessed, and those
        on the wire get their outcome when it comes.
        """

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:
        """How many rows the links of this route and lane would take now, waiting ones counted: the planner's credit."""

    def drop_credential(self, credential_id: int) -> None:
        """Closes every link of this credential; later rows open new ones with what the credential then is (A-06)."""

    async def prove(self, route: Route, credential_id: int) -> Proof:
        """Whether the gateway takes this credential for the route, asked at once and reaching no device."""
