"""Beacons: reports of installs that carry a signature instead of an API key, and the keys that installs sign with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from pushd.commands import receipts
from pushd.commands.context import Context
from pushd.commands.receipts import ReceiptCounts
from pushd.commands.text import check_text
from pushd.errors import Fault, InvalidRequestError, NotFoundError, UnauthorizedError
from pushd.model.device import ID_MAX, Text255
from pushd.model.receipt import BUTTON_CHARS_MAX, TIME_MAX, Event, Receipt
from pushd.reports.beacons import event_id

BEACONS_MAX = 100
"""Of one request."""


class Beacon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event of one notification on one install, signed with the install's key."""

    install_id: Text255
    notification_id: Annotated[int, Meta(ge=1, le=ID_MAX)]
    event: Event
    signature: Annotated[str, Meta(max_length=64)]
    """Base64url of HMAC-SHA256 under the install's key over `notification_id`, `event` and `button` (or nothing), with
    a line feed between them."""
    at: Annotated[float, Meta(ge=0, le=TIME_MAX)] | None = None
    """UNIX seconds by the device's clock; absent: now."""
    button: Annotated[str, Meta(min_length=1, max_length=BUTTON_CHARS_MAX)] | None = None
    """Of `clicked`: the button's id."""


class BeaconKey(Struct, frozen=True, kw_only=True):
    """What an install signs with."""

    install_id: str
    key: str
    """32 octets in base64url: a secret of this install, good for as long as the installation's master key."""
    path: str
    """Where its beacons go, on this host."""


def key_of(context: Context, app_id: int, install_id: str) -> BeaconKey:
    """The key of an install, whether it has registered yet or not. InvalidRequestError."""
    check_text({"install_id": install_id})
    key = context.beacons.key(app_id, install_id)
    return BeaconKey(install_id=install_id, key=key, path=f"/pushd/beacons/{app_id}")


async def take(context: Context, app_id: int, beacons: Sequence[Beacon], network: str) -> ReceiptCounts:
    """What became of beacons from a client's network, once it is committed; each event counts once.

    UnauthorizedError where one was not signed by its install; NotFoundError where the app is gone;
    TooManyRequestsError; UnavailableError: send them again.
    """
    now = context.clock.monotonic()
    context.limits.admit_address(network, len(beacons), now)
    if faults := _faults(beacons):
        raise InvalidRequestError("The beacons are not valid", faults=faults)
    by_install: dict[str, list[Receipt]] = defaultdict(list)
    for each in beacons:
        signed = (each.install_id, each.notification_id, each.event, each.button)
        if not context.beacons.genuine(app_id, *signed, each.signature):
            context.limits.forged(network, now)
            raise UnauthorizedError("A beacon was not signed by its install")
        by_install[each.install_id].append(_receipt(each))
    if await context.store.apps.get(app_id) is None:
        raise NotFoundError("There is no such app")
    counts = [
        await receipts.keep_of_install(context, app_id, theirs, install_id) for install_id, theirs in by_install.items()
    ]
    return ReceiptCounts(
        taken=sum(each.taken for each in counts),
        repeated=sum(each.repeated for each in counts),
        unknown=sum(each.unknown for each in counts),
    )


def _receipt(beacon: Beacon) -> Receipt:
    return Receipt(
        id=event_id(beacon.event, beacon.button),
        notification_id=beacon.notification_id,
        event=beacon.event,
        at=beacon.at,
        button=beacon.button,
    )


def _faults(beacons: Sequence[Beacon]) -> list[Fault]:
    faults = []
    for at, each in enumerate(beacons):
        if "\0" in each.install_id:
            faults.append(Fault(f"/beacons/{at}/install_id", "holds the character U+0000"))
        if each.button is not None and each.event is not Event.CLICKED:
            faults.append(Fault(f"/beacons/{at}/button", "goes with the event clicked alone"))
        elif each.button is not None and "\0" in each.button:
            faults.append(Fault(f"/beacons/{at}/button", "holds the character U+0000"))
    return faults
