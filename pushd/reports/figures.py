"""Figures of reports from counts: sums by gateway, rates, the status of a send, reasons with their sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pushd.model.device import GatewayName
from pushd.model.notification import Ledger, ReasonCount, State
from pushd.model.report import UNKNOWN_PLATFORM, GatewayFigures, PlatformFigures, ReasonFigures, Status
from pushd.outcome import Reasons
from pushd.reports.words import explain

_WORDS: Mapping[str, Status] = {"scheduled": "scheduled", "cancelled": "cancelled"}
_OWN = frozenset({"accepted", "expired", "cancelled", "suppressed"})
"""Outcomes with a column of their own; all others failed."""


def by_gateway(reasons: Sequence[ReasonCount]) -> list[GatewayFigures]:
    """Outcomes of each gateway that settled anything, in the order of the gateways."""
    sums: dict[GatewayName, dict[str, int]] = {}
    for each in reasons:
        column = each.outcome if each.outcome in _OWN else "failed"
        own = sums.setdefault(each.gateway, {})
        own[column] = own.get(column, 0) + each.count
    return [GatewayFigures(gateway=gateway, **sums[gateway]) for gateway in GatewayName if gateway in sums]


def in_words(reasons: Sequence[ReasonCount], tables: Mapping[int, Reasons]) -> list[ReasonFigures]:
    """The reasons, each with its sentence."""
    return [
        ReasonFigures(
            gateway=each.gateway,
            outcome=each.outcome,
            reason=each.reason,
            count=each.count,
            explanation=explain(each.gateway, tables[each.gateway.number], _code(tables[each.gateway.number], each)),
        )
        for each in reasons
    ]


def by_platform(
    targeted: Mapping[str, int], opened: Mapping[str, int], clicked: Mapping[str, int], totals: tuple[int, int, int]
) -> list[PlatformFigures]:
    """Devices by platform, the most first; what the totals have beyond them is of platforms that are not known."""
    found = [
        PlatformFigures(platform=name, targeted=count, opened=opened.get(name, 0), clicked=clicked.get(name, 0))
        for name, count in sorted(targeted.items(), key=lambda item: (-item[1], item[0]))
    ]
    rest = [total - sum(known.values()) for total, known in zip(totals, (targeted, opened, clicked), strict=True)]
    if rest[0] > 0:
        of_none = PlatformFigures(platform=UNKNOWN_PLATFORM, targeted=rest[0], opened=rest[1], clicked=rest[2])
        found.append(of_none)
    return found


def status(state: State, ledger: Ledger) -> Status:
    """Where a send stands, in one word."""
    if (word := _WORDS.get(state.value)) is not None:
        return word
    if state is State.DONE and ledger.targeted and ledger.failed == ledger.targeted:
        return "failed"
    return "published"


def rate(part: int, whole: int) -> float | None:
    """A part of a whole, to four digits; None of nothing."""
    return round(part / whole, 4) if whole else None


def _code(table: Reasons, wanted: ReasonCount) -> int:
    return next(
        code
        for code, reason in table.by_code.items()
        if reason.name == wanted.reason and reason.outcome.name.lower() == wanted.outcome
    )
