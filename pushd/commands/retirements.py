"""Retirements: dead tokens counted by why, and taken back by an operator."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import Fault, InvalidRequestError
from pushd.store import devices
from pushd.store.retirements import Retired, RetirementReader

GROUPS_MAX = 1_000
"""Reasons and credentials are few; this bounds what a mistake can make us hold."""


class Revived(Struct, frozen=True):
    """What taking retirements back came to."""

    devices: int
    """How many are sent to again."""


async def summary(context: Context, app_id: int, *, since: float, until: float | None = None) -> Sequence[Retired]:
    """Devices that were retired in this span and still are, by reason and credential."""
    end = context.clock.now() if until is None else until
    _check_span(since, end)
    return await RetirementReader(context.store.database).summary(app_id, since, end, GROUPS_MAX)


async def revive(
    context: Context,
    app_id: int,
    *,
    since: float,
    until: float | None = None,
    reason: str | None = None,
    credential_id: int | None = None,
) -> Revived:
    """How many devices that were retired in this span, for this reason, by this credential, are sent to again.

    One that is dead after all is retired again by the next answer to it.
    """
    check_text({"reason": reason})
    end = context.clock.now() if until is None else until
    _check_span(since, end)
    return await context.whole(_revive(context, app_id, since, end, reason, credential_id))


async def _revive(
    context: Context, app_id: int, since: float, until: float, reason: str | None, credential_id: int | None
) -> Revived:
    count = 0
    while True:
        done = await context.store.devices.revive(
            app_id, since, reason=reason, credential_id=credential_id, until=until
        )
        await context.index.take_in(devices=done.rows)
        count += done.count
        if done.count < devices.REVIVED_ROWS:
            return Revived(devices=count)


def _check_span(since: float, until: float) -> None:
    if since > until:
        raise InvalidRequestError(faults=[Fault("/since", "lies after the end of the span")])
