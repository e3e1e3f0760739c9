"""The rules of an address, by kind, checked before it is stored: every fault points at its field."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from protocols import apns, apns_channels, fcm, hms, safari, smtp
from pushd.commands import subscriptions
from pushd.commands.subscriptions import PushRules
from pushd.commands.text import text_faults
from pushd.errors import Fault
from pushd.model.device import GatewayName, Kind, Registration

# What topics, package ids and header values may be made of; MDM topics have the same letters.
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Language, script, region and variants (RFC 5646 section 2.1), also with Java's and iOS's underscores.
_LOCALE = re.compile(r"[A-Za-z]{2,8}(?:[-_@][A-Za-z0-9=]{1,16})*")
_COUNTRY = re.compile(r"[A-Za-z]{2}")
_APNS = frozenset(kind for kind in Kind if kind.gateway is GatewayName.APNS)
_CHECKS: dict[Kind, Callable[[str], str]] = {
    **dict.fromkeys(_APNS, apns.check_token),
    Kind.FCM: fcm.check_token,
    Kind.APNS_CHANNEL: apns_channels.check_channel_id,
    Kind.HMS: hms.check_token,
    Kind.SAFARI: apns.check_token,
}
_TOKEN = re.compile(r"[\x21-\x7e]+")


def check(registrations: Sequence[Registration], rules: PushRules) -> tuple[list[Registration], dict[int, list[Fault]]]:
    """The registrations as they are stored, and the faults of the bad ones by position.

    Stored are hexadecimal in lower case, and subscriptions as tokens of one line, checked by `rules`.
    """
    checked = [*registrations]
    bad: dict[int, list[Fault]] = {}
    foul = bool(text_faults(checked))
    faults: list[Fault] = []
    for row, registration in enumerate(checked):
        if registration.kind is Kind.WEBPUSH:
            token = subscriptions.token(registration, rules, faults)
        else:
            token = _token(registration, faults)
        _attributes(registration, faults)
        if foul:
            faults += text_faults(registration)
        if faults:
            bad[row] = faults
            faults = []
        elif token != registration.token:
            checked[row] = msgspec.structs.replace(registration, token=token, subscription=None)
    return checked, bad


def channel_install(channel_id: str) -> str:
    """The install that a broadcast channel is the only device of."""
    return f"channel:{channel_id}"


def check_attributes(change: Registration) -> list[Fault]:
    """The faults of what a registration says beside its address."""
    faults = text_faults(change)
    _attributes(change, faults)
    return faults


def _token(registration: Registration, faults: list[Fault]) -> str | None:
    """The token in its stored form."""
    token, kind = registration.token, registration.kind
    if registration.subscription is not None:
        faults.append(Fault("/subscription", "is what addresses of kind webpush have"))
    if token is None:
        return None
    if kind in _APNS and not registration.bundle:
        faults.append(Fault("/bundle", "is required: it chooses the topic of APNs"))
    if kind is Kind.SAFARI and not (registration.bundle or "").startswith(safari.ID_PREFIX):
        faults.append(Fault("/bundle", "is required: the website push id, which begins with web."))
    if kind is Kind.APNS_CHANNEL and registration.install_id != channel_install(token):
        faults.append(Fault("/install_id", "of a channel is `channel:` and its id"))
    check = _CHECKS.get(kind)
    if check is not None:
        try:
            return check(token)
        except ValueError as error:
            faults.append(Fault("/token", str(error)))
    elif kind is Kind.EMAIL:
        try:
            return smtp.check_address(token)
        except ValueError as error:
            faults.append(Fault("/token", str(error)))
    elif not _TOKEN.fullmatch(token):
        faults.append(Fault("/token", "must be printable ASCII without spaces"))
    return token


def _attributes(change: Registration, faults: list[Fault]) -> None:
    if change.bundle and not _BUNDLE.fullmatch(change.bundle):
        faults.append(Fault("/bundle", "must be letters, digits, points, hyphens and underscores"))
    if change.locale and not _LOCALE.fullmatch(change.locale):
        faults.append(Fault("/locale", "is not a language tag such as en or pt-BR"))
    if change.country and not _COUNTRY.fullmatch(change.country):
        faults.append(Fault("/country", "must be two letters, as in ISO 3166-1: DE, BR"))
    if change.time_zone and change.time_zone not in _zones():
        faults.append(Fault("/time_zone", "is not a name of the IANA time zone database"))


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
