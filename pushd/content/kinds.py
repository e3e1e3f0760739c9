"""Which kinds of address a push type reaches: a broadcast alert never rings a phone and never mails."""

from __future__ import annotations

from pushd.model.device import ALERT_KINDS, Kind
from pushd.model.message import PushType

_KINDS: dict[PushType, frozenset[Kind]] = {
    PushType.ALERT: ALERT_KINDS,
    # Browsers and Safari show every push or take the permission away: none of them has a silent one.
    PushType.BACKGROUND: frozenset({Kind.APNS, Kind.FCM, Kind.HMS}),
    PushType.VOIP: frozenset({Kind.APNS_VOIP}),
    PushType.COMPLICATION: frozenset({Kind.APNS_COMPLICATION}),
    PushType.FILEPROVIDER: frozenset({Kind.APNS_FILEPROVIDER}),
    PushType.LOCATION: frozenset({Kind.APNS_LOCATION}),
    PushType.LIVEACTIVITY: frozenset({Kind.APNS_LIVEACTIVITY}),
    PushType.PUSHTOTALK: frozenset({Kind.APNS_PUSHTOTALK}),
    PushType.CONTROLS: frozenset({Kind.APNS_CONTROLS}),
    PushType.WIDGETS: frozenset({Kind.APNS_WIDGETS}),
    PushType.MDM: frozenset({Kind.APNS_MDM}),
    PushType.EMAIL: frozenset({Kind.EMAIL}),
    PushType.CHANNEL: frozenset({Kind.APNS_CHANNEL}),
}


def kinds(push_type: PushType) -> frozenset[Kind]:
    """The kinds of address that messages of this push type are sent to."""
    return _KINDS[push_type]
