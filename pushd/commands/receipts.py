"""Receipts: what devices report of the notifications that reached them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pushd.commands.context import Context
from pushd.errors import Fault, InvalidRequestError
from pushd.model.receipt import Event, Receipt
from pushd.telemetry import RECEIPTS

RESULTS = tuple(map(RECEIPTS.labels, ("taken", "repeated", "unknown")))
"""Counters in the order in which the store tells them."""


class ReceiptCounts(Struct, frozen=True, kw_only=True):
    """What became of the receipts of one request."""

    taken: int
    """New, and kept from now on."""
    repeated: int
    """Known before, by their ids."""
    unknown: int
    """About a notification or an install that the app does not have, or no longer has."""


async def take(
    context: Context, app_id: int, receipts: Sequence[Receipt], install_id: str | None, *, device_key: int | None = None
) -> ReceiptCounts:
    """What became of them, once it is committed; those that name no install are of `install_id`.

    By a device key (its id) they may name no other, and are counted against the limits of install and key.
    InvalidRequestError, TooManyRequestsError; UnavailableError: give them again.
    """
    if faults := _faults(receipts, install_id, own_only=device_key is not None):
        raise InvalidRequestError("The receipts are not valid", faults=faults)
    if device_key is None or install_id is None:
        return await keep(context, app_id, receipts, install_id)
    context.limits.admit_key(device_key, len(receipts), context.clock.monotonic())
    return await keep_of_install(context, app_id, receipts, install_id)


async def keep_of_install(context: Context, app_id: int, receipts: Sequence[Receipt], install_id: str) -> ReceiptCounts:
    """As `keep`, for receipts of one install that nobody vouches for. TooManyRequestsError past its limit."""
    limits, clock = context.limits, context.clock
    limits.admit(app_id, install_id, len(receipts), clock.monotonic())
    taken = 0
    try:
        counts = await keep(context, app_id, receipts, install_id)
        taken = counts.taken
    finally:
        limits.give_back(app_id, install_id, len(receipts) - taken, clock.monotonic())
    return counts


async def keep(context: Context, app_id: int, receipts: Sequence[Receipt], install_id: str | None) -> ReceiptCounts:
    """What became of receipts that were checked, once it is committed. UnavailableError: give them again."""
    counts = await context.store.receipts.take(app_id, receipts, install_id)
    for result, count in zip(RESULTS, counts, strict=True):
        if count:
            result.inc(count)
    return ReceiptCounts(taken=counts.taken, repeated=counts.repeated, unknown=counts.unknown)


def _faults(receipts: Sequence[Receipt], install_id: str | None, *, own_only: bool) -> list[Fault]:
    faults = []
    if own_only and install_id is None:
        faults.append(Fault("/install_id", "is required of a device key"))
    if install_id is not None and "\0" in install_id:
        faults.append(Fault("/install_id", "holds the character U+0000"))
    for at, each in enumerate(receipts):
        own = each.install_id
        if own is None:
            if install_id is None and not own_only:
                faults.append(Fault(f"/receipts/{at}/install_id", "is missing: no install is named for all either"))
        elif own_only and own != install_id:
            faults.append(Fault(f"/receipts/{at}/install_id", "a device key reports of the install that it names"))
        elif "\0" in own:
            faults.append(Fault(f"/receipts/{at}/install_id", "holds the character U+0000"))
        if each.button is not None:
            if each.event is not Event.CLICKED:
                faults.append(Fault(f"/receipts/{at}/button", "goes with the event clicked alone"))
            elif "\0" in each.button:
                faults.append(Fault(f"/receipts/{at}/button", "holds the character U+0000"))
    return faults
