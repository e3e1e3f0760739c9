"""What becomes of occurrences whose time came while no daemon ran: which are sent late, and which are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pushd.model.schedule import LATE_MAX_S, Missed, RunLate, Schedule

ON_TIME_S: Final = 60
"""An occurrence that is later than that was missed; below, it only had to wait its turn."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The occurrences that have come, ascending, each in one of the two."""

    run: tuple[float, ...]
    skipped: tuple[float, ...]
    """They are reported, and count as occurrences."""


def judge(passed: Sequence[float], now: float, policy: Missed | None) -> Verdict:
    """What becomes of occurrences that have come by `now`, ascending, as instants at which they were due.

    Those on time run. Of those that were missed the last one does, where nothing on time follows and the policy lets
    it be so late (absent: an hour): whoever slept through ten reminders wants one.
    """
    run = tuple(each for each in passed if each >= now - ON_TIME_S)
    within_s = _within_s(policy)
    if not run and passed and passed[-1] >= now - within_s:
        run = (passed[-1],)
    return Verdict(run, tuple(passed[: len(passed) - len(run)]))


def allowed_s(schedule: Schedule | None) -> float:
    """How late a release of a send may be; what is later than that is not sent.

    Without a policy a send that goes out once is sent up to a week late, an occurrence of one that recurs an hour.
    """
    policy = None if schedule is None else schedule.missed
    if policy is None and (schedule is None or schedule.recurrence is None):
        return LATE_MAX_S
    return max(_within_s(policy), ON_TIME_S)


def _within_s(policy: Missed | None) -> int:
    if policy is None:
        return RunLate().within_s
    return policy.within_s if isinstance(policy, RunLate) else 0
