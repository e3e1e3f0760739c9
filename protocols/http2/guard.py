"""Limits on a hostile or broken peer: frames that help nobody, refusals without end (T-30 to T-39).

Theory of operation. Every frame that brings no answer is a nuisance: PING, SETTINGS, WINDOW_UPDATE, empty DATA, 1xx,
frames for streams that are over. A connection starts with an allowance of them; each whole answer earns some of it
back, so that a busy honest server (an update or two per request) never comes near the limit, and a flood reaches it
soon. There is no clock here: `new_interval`, called by the owner of one, forgives everything, so that years of honest
keep-alive do not add up.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.http2.frames import ErrorCode
from protocols.http2.settings import ConnectionSettings


class Guard:
    """The counters of one connection; each method raises RemoteProtocolError when a limit is passed."""

    __slots__ = ("_held", "_held_max", "_max", "_nuisances", "_per_answer", "_refusals", "_refusals_max")

    def __init__(self, settings: ConnectionSettings) -> None:
        self._max = settings.nuisance_max
        self._per_answer = settings.nuisance_per_answer
        self._refusals_max = settings.refusals_max
        self._held_max = settings.held_bytes_max
        self._nuisances = 0
        self._refusals = 0
        self._held = 0

    def nuisance(self, weight: int = 1) -> None:
        """Counts what helps nobody (T-32)."""
        self._nuisances += weight
        if self._nuisances > self._max:
            raise RemoteProtocolError("too many frames that help nobody", ErrorCode.ENHANCE_YOUR_CALM)

    def answered(self, answers: int) -> None:
        """Counts whole answers."""
        self._nuisances = max(0, self._nuisances - answers * self._per_answer)
        self._refusals = 0

    @property
    def forgiving(self) -> bool:
        """Whether nuisances can follow answers by turns for ever."""
        return self._per_answer > 0 < self._max

    def answered_with_nuisance(self, answers: int) -> None:
        """Counts whole answers each followed by a nuisance, as if by turns; for a guard that is `forgiving`."""
        if answers:
            self._nuisances = max(1, self._nuisances - answers * (self._per_answer - 1))
            self._refusals = 0

    def turn(self, answers: int) -> bool:
        """Counts whole answers, then a nuisance; False, with nothing counted, where that nuisance is one too many."""
        nuisances = max(0, self._nuisances - answers * self._per_answer) + 1
        if nuisances > self._max:
            return False
        self._nuisances = nuisances
        if answers:
            self._refusals = 0
        return True

    def refused(self) -> None:
        """Counts a stream that the peer would not process (T-39)."""
        self._refusals += 1
        if self._refusals > self._refusals_max:
            raise RemoteProtocolError("nothing but refused streams", ErrorCode.ENHANCE_YOUR_CALM)

    def new_interval(self) -> None:
        """Forgives the nuisances so far."""
        self._nuisances = 0

    def hold(self, size: int) -> bool:
        """Whether that many octets more of unfinished answers may be kept; they count until `let_go`."""
        if self._held + size > self._held_max:
            return False
        self._held += size
        return True

    def let_go(self, size: int) -> None:
        """Gives back octets that `hold` granted."""
        self._held -= size
