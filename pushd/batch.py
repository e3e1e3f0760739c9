"""The waist towards gateways: columns of rows that share a route, and the outcome byte of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import overload

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from pushd.model.device import Route


class Lane(IntEnum):
    """Which links a row may use: a one-time password never waits behind a campaign."""

    TRANSACTIONAL = 0
    BULK = 1
    DOUBTFUL = 2
    """Campaigns whose answers make the gateway slow their link down (A-51): it is not the others' link."""


class Rendered(Struct, frozen=True, kw_only=True, gc=False):
    """One message as one platform takes it. What of `headers` exists is the gateway's business; `content/` makes it."""

    payload: bytes
    """The exact body bytes."""
    headers: tuple[tuple[str, str], ...] = ()
    """Gateway header values that this message sets, in the gateway's own names, such as ("apns-priority", "5")."""
    collapse_id: str | None = None
    """What it replaces on the screen, for gateways with a header for that: messages with the same `headers` differ."""
    expires_at: int = 0
    """UNIX seconds after which the gateway must not deliver; 0: one attempt, not stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Bodies(Sequence[Rendered]):
    """Content of rows that differ in nothing but their bodies: gateways that know it make matrices of them."""

    octets: Sequence[bytes]
    """The body of each row."""
    shared: Rendered
    """The headers and the expiry of all; its own body is nobody's."""

    @overload
    def __getitem__(self, at: int) -> Rendered: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Rendered]: ...

    def __getitem__(self, at: int | slice) -> Rendered | Sequence[Rendered]:
        if isinstance(at, slice):
            return Bodies(self.octets[at], self.shared)
        return replace(self.shared, payload=self.octets[at])

    def __len__(self) -> int:
        return len(self.octets)


@dataclass(slots=True, eq=False, kw_only=True)
class Batch:
    """Rows of one route, credential and lane on their way to a gateway, as columns of one length.

    `notifications` and `payloads` are a scalar or a column, so that five hundred single sends are one batch as a
    campaign's thousand rows are. The gateway fills `outcomes`; the filled table is the result travelling home.
    """

    route: Route
    credential_id: int
    lane: Lane
    ids: NDArray[np.uint32]
    """Device ids."""
    tokens: NDArray[np.bytes_]
    """Addresses, one fixed-width row each, NUL-padded where they differ in length."""
    revisions: NDArray[np.int32]
    """Revision of each device when its token was copied: retiring is compare-and-set on (id, revision)."""
    notifications: int | NDArray[np.int64]
    """Notification id of all rows, or of each."""
    payloads: Rendered | Sequence[Rendered]
    """Content of all rows, or of each."""
    attempt: int = 1
    """1 for the first time out; retries count up, unprocessed rows do not."""
    outcomes: NDArray[np.uint8] = field(init=False)
    """A code of the gateway's table of reasons per row; 0 is pending."""
    retry_after: dict[int, float] = field(default_factory=dict)
    """Seconds to wait before the next attempt, by row; sparse. Unprocessed rows that wait use up no attempt."""
    alone: set[int] = field(default_factory=set)
    """Rows whose wait concerns nobody else: our own rule for such an answer, or one service among many; sparse."""
    invalid_since: dict[int, int] = field(default_factory=dict)
    """When the gateway learned that a token was dead, ms since the epoch, by row; sparse."""

    def __post_init__(self) -> None:
        self.outcomes = np.zeros(len(self.ids), np.uint8)
        assert len(self.ids) == len(self.tokens) == len(self.revisions)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pending(self) -> int:
        """How many rows have no outcome yet."""
        return len(self.outcomes) - int(np.count_nonzero(self.outcomes))

    def wait_alone(self, rows: Iterable[int], seconds: float) -> None:
        """Lets rows wait for so long, and nobody else."""
        for row in rows:
            self.retry_after[row] = seconds
            self.alone.add(row)

    def settle_pending(self, code: int) -> None:
        """Gives every row that is still pending this code."""
        self.outcomes[self.outcomes == 0] = code
