"""Events of schedules and releases, noted in the transactions that fire the ones and open the others."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pushd.store.release_rows import ReleaseRows, columns
from pushd.store.times import moment

if TYPE_CHECKING:
    from pushd.store.firings import Firing
    from pushd.store.rollouts import Opening

_LISTENED = "SELECT EXISTS (SELECT FROM listeners)"
_OCCURRENCES = "SELECT note_occurrences($1, $2, $3, $4, $5)"
_RELEASED = "SELECT note_released($1, $2, $3, $4, $5)"
_OUTCOMES = "SELECT note_outcomes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_FINISHED = "SELECT note_finished($1, $2, $3, $4)"
_ROLLOUTS_FINISHED = "SELECT note_rollouts_finished($1, $2)"


async def note_fired(
    connection: Any,
    firings: Sequence[Firing],
    decided: AbstractSet[tuple[int, datetime]],
    rows: ReleaseRows,
    now: datetime,
) -> None:
    """Notes what firings decided about (schedules and times in `decided`), began (`rows`), and ended at once."""
    if not await connection.fetchval(_LISTENED):
        return
    occurrences = []
    for each in firings:
        keys = [*((each.due.id, moment(at), None) for at in each.skipped), (*each.key, each.notification_id or None)]
        occurrences += [(each.due.app_id, *key) for key in keys if key[:2] in decided]
    await connection.execute(_OCCURRENCES, now, *columns(occurrences, 4))
    begun = [each for each in firings if each.start is not None and each.key in decided and not each.rollout]
    released = [
        (each.start.app_id, each.notification_id, 0, len(each.start.targeted))
        for each in begun
        if each.start is not None and each.runs
    ]
    if released:
        await connection.execute(_RELEASED, now, *columns(released, 4))
    await _note_settled(connection, rows, now)
    if over := [(each.due.app_id, each.notification_id, False) for each in begun if not each.runs]:
        await connection.execute(_FINISHED, now, *columns(over, 3))


async def note_opened(connection: Any, openings: Sequence[Opening], rows: ReleaseRows, now: datetime) -> None:
    """Notes which releases began (`rows`), and which notifications are over with one that goes to nobody."""
    if not await connection.fetchval(_LISTENED):
        return
    released = [(each.head.app_id, each.id, each.release.number, len(each.targets)) for each in openings if each.runs]
    if released:
        await connection.execute(_RELEASED, now, *columns(released, 4))
    await _note_settled(connection, rows, now)
    if idle := [each.id for each in openings if not each.runs]:
        await connection.execute(_ROLLOUTS_FINISHED, now, idle)


async def _note_settled(connection: Any, rows: ReleaseRows, now: datetime) -> None:
    """Notes who gets nothing of the releases."""
    if (settled := rows.settled) is not None:
        await connection.execute(_OUTCOMES, now, *settled)
