"""Why a device got a notification or did not, in words: a sentence for each of pushd's reasons, and for vendors'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pushd import outcome
from pushd.model.device import GatewayName
from pushd.outcome import VENDOR_CODES_FROM, Outcome, Reasons

SERVICES: Final[Mapping[GatewayName, str]] = {
    GatewayName.APNS: "APNs",
    GatewayName.FCM: "FCM",
    GatewayName.HMS: "HMS Push Kit",
    GatewayName.SAFARI: "APNs",
    GatewayName.EMAIL: "the mail relay",
    GatewayName.WEBPUSH: "the push service",
}

_OWN: Final[Mapping[str, str]] = {
    outcome.ACCEPTED.name: "{service} took it. Whether the device showed it, its receipts say.",
    outcome.NOT_WRITTEN.name: "It was never written to {service}: no connection took it while it was worth sending.",
    outcome.REFUSED_STREAM.name: "{service} refused it without looking, again and again, until it was given up.",
    outcome.ABOVE_GOAWAY.name: "{service} closed the connection without looking at it, until it was given up.",
    outcome.NO_CONNECTION.name: "There was no connection to {service} while it was worth sending.",
    outcome.CONNECTION_LOST.name: "The connection to {service} broke after it was written; whether it arrived is not "
    "known.",
    outcome.RESPONSE_TIMEOUT.name: "{service} never answered; whether it arrived is not known.",
    outcome.STREAM_RESET.name: "{service} broke it off after it was written; whether it arrived is not known.",
    outcome.STOPPED.name: "pushd ended while it was under way; whether it arrived is not known.",
    outcome.MALFORMED_RESPONSE.name: "{service} answered with something that cannot be understood.",
    outcome.EXPIRED.name: "Its life ended before it could be sent.",
    outcome.CANCELLED.name: "It was cancelled before it was sent.",
    outcome.UNREACHABLE.name: "The device could not be reached any more when its turn came: its address was gone, push "
    "was switched off, or the audience did not hold it any more.",
    outcome.NO_CREDENTIAL.name: "There is no credential for {service} that fits this device.",
    outcome.PAYLOAD_TOO_LARGE.name: "It is larger than {service} takes.",
    outcome.NOT_SUPPORTED.name: "What it asks for does not exist on this platform.",
    outcome.REQUEST_IMPOSSIBLE.name: "No request for {service} can be made of it: it asks for what has no form there.",
    outcome.INTERNAL_ERROR.name: "Something in pushd failed; its log says what.",
    outcome.CERTIFICATE_REFUSED.name: "{service} refused the certificate.",
    outcome.CERTIFICATE_EXPIRED.name: "The certificate for {service} had expired.",
    "template_failed": "Its template could not be rendered for this device within its limits.",
    "time_passed": "Its time had passed where this device is.",
    "quiet_hours": "It fell into the quiet hours of this device, and was not to be held.",
    "frequency_cap": "Its user had got as many messages of this kind as the app allows.",
}
_SUPPRESSED = "It was left out before it was sent."
_BY_OUTCOME: Final[Mapping[Outcome, str]] = {
    Outcome.ACCEPTED: "{service} took it ({reason}).",
    Outcome.UNPROCESSED: "{service} did not look at it ({reason}), until it was given up.",
    Outcome.UNAVAILABLE: "{service} could not take it ({reason}), until it was given up.",
    Outcome.THROTTLED: "{service} wanted fewer messages ({reason}), until it was given up.",
    Outcome.LOST: "It was written and {service} said nothing that settles it ({reason}).",
    Outcome.UNREGISTERED: "{service} says that the address is dead ({reason}): the app was removed, or push was "
    "switched off there. The device stays retired until it registers again.",
    Outcome.REJECTED: "{service} refused the message ({reason}).",
    Outcome.MISCONFIGURED: "{service} refused the credential, or what it may send to ({reason}).",
    Outcome.EXPIRED: "Its life ended before {service} could take it ({reason}).",
    Outcome.CANCELLED: "It was cancelled ({reason}).",
    Outcome.SUPPRESSED: "It was left out before it was sent ({reason}).",
}


def explain(gateway: GatewayName, reasons: Reasons, code: int) -> str:
    """The sentence for a stored code of a gateway."""
    reason = reasons.by_code[code]
    own = _OWN.get(reason.name) if reason.code < VENDOR_CODES_FROM else None
    sentence = own or _BY_OUTCOME.get(reason.outcome, _SUPPRESSED)
    text = sentence.format(service=SERVICES[gateway], reason=reason.name)
    return text[0].upper() + text[1:]


PENDING = "It has not been sent to this device yet."
PAUSED = "It is paused: what is left of it waits."
NOT_TARGETED = "The audience did not hold this device when the notification was released"
REGISTERED_LATER = f"{NOT_TARGETED}: it was first seen after that."
NO_ADDRESS = f"{NOT_TARGETED}, or it could not be reached then: it has no address now."
SWITCHED_OFF = f"{NOT_TARGETED}, or it could not be reached then: push is switched off on it now."
RETIRED = f"{NOT_TARGETED}, or it could not be reached then: its address was found dead ({{reason}}) and is retired."
HOLDS_NOW = f"{NOT_TARGETED}; it would now, so that something about the device, its user or the audience changed since."
HOLDS_NOT = f"{NOT_TARGETED}, and does not hold it now."
UNTOLD = f"{NOT_TARGETED}. Whether it would now cannot be told."
SCHEDULED = "Its time has not come: whom it goes to is settled when it does."
