"""Folds registrations in order: what a sequence of them comes to, each install, device and address once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from msgspec import UNSET, Struct, field

from pushd.model.device import Environment, Kind, Registration

ENVIRONMENT_NUMBERS = {Environment.PRODUCTION: 0, Environment.SANDBOX: 1}
KIND_NUMBERS = {kind: kind.number for kind in Kind}

# Bits of register_devices' i_mask, by field of a registration.
USER, PLATFORM, TAGS, LOCALE, TIME_ZONE, APP_VERSION, PUSH_ENABLED, CONSENT = (1 << bit for bit in range(8))
OS_VERSION, COUNTRY, ALIAS = (1 << bit for bit in range(9, 12))
PROFILE = PLATFORM | LOCALE | TIME_ZONE | APP_VERSION | OS_VERSION | COUNTRY
SEEN = 1 << 8
"""An address comes along, whose device says when the install was seen."""


# Structs without cycles: the collector, which thousands of rows a chunk would keep busy, need not look at them.


class Install(Struct, eq=False, gc=False):
    """What the registrations say of one install."""

    app_id: int
    name: str
    mask: int = 0
    user: str | None = None
    platform: str | None = None
    tags: Sequence[str] = ()
    locale: str | None = None
    time_zone: str | None = None
    app_version: str | None = None
    os_version: str | None = None
    country: str | None = None
    alias: str | None = None
    push_enabled: bool | None = None
    in_app_consent: bool | None = None


class Address(Struct, eq=False, gc=False):
    """What the registrations say of one device: an address of a kind of one install."""

    row: int
    """Its place among the addresses, from 1."""
    install: int
    """The place of its install, from 1."""
    kind: int
    environment: int = 0
    bundle: str | None = None
    """None: never named."""
    shape: str | None = None
    """As the bundle."""
    token: bytes | None = None
    """None: never named, or lost."""
    address: bytes | None = None
    lost: bool = False
    """It had or got an address here that another device has in the end."""


class Folded(Struct, eq=False):
    """A sequence of registrations as sets: what they come to when they are taken one after the other."""

    installs: list[Install] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    claimed: dict[bytes, Address | None] = field(default_factory=dict)
    """Every address that was named, and who has it in the end."""
    rows: list[int] = field(default_factory=list)
    """For each registration the place of its device, from 1."""
    _install_rows: dict[tuple[int, str], int] = field(default_factory=dict)
    _address_rows: dict[tuple[int, int], Address] = field(default_factory=dict)

    def take(self, app_id: int, registrations: Sequence[Registration]) -> None:
        """Goes on with registrations of an app."""
        installs, addresses = self.installs, self.addresses
        for registration in registrations:
            key = (app_id, registration.install_id)
            place = self._install_rows.get(key)
            if place is None:
                installs.append(Install(app_id, registration.install_id))
                place = self._install_rows[key] = len(installs)
            _set_attributes(installs[place - 1], registration)
            kind = KIND_NUMBERS[registration.kind]
            address = self._address_rows.get((place, kind))
            if address is None:
                address = self._address_rows[place, kind] = Address(len(addresses) + 1, place, kind)
                addresses.append(address)
            _set_address(self, address, app_id, registration)
            self.rows.append(address.row)


def address_of(app_id: int, kind: int, environment: int, token: bytes) -> bytes:
    """The 16 bytes by which an address is unique: SHA-256 of app, kind, environment and token, cut."""
    return sha256(b"%d %d %d %b" % (app_id, kind, environment, token)).digest()[:16]


def _set_address(folded: Folded, address: Address, app_id: int, registration: Registration) -> None:
    """Gives a device its new address; whoever had that loses it, and what the device had is nobody's."""
    if registration.token is None:
        # Nothing is said of the address; where the device has none yet, route and bundle still count.
        if address.token is None:
            address.environment = ENVIRONMENT_NUMBERS[registration.environment]
            _set_route(address, registration)
        return
    environment = ENVIRONMENT_NUMBERS[registration.environment]
    token = registration.token.encode()
    key = address_of(app_id, address.kind, environment, token)
    if address.address is not None:
        folded.claimed[address.address] = None
    owner = folded.claimed.get(key)
    if owner is not None and owner is not address:
        owner.token, owner.address, owner.lost = None, None, True
    folded.claimed[key] = address
    address.environment, address.token, address.address, address.lost = environment, token, key, False
    _set_route(address, registration)


def _set_route(address: Address, registration: Registration) -> None:
    if registration.bundle is not UNSET:
        address.bundle = registration.bundle
    if registration.shape is not UNSET:
        address.shape = registration.shape.value


def _set_attributes(install: Install, registration: Registration) -> None:
    """Overwrites what the registration names; what it leaves out stays."""
    if registration.user_id is not UNSET:
        install.user = registration.user_id
        install.mask |= USER
    if registration.platform is not UNSET:
        install.platform = registration.platform.value if registration.platform else None
        install.mask |= PLATFORM
    if registration.tags is not UNSET:
        install.tags = registration.tags
        install.mask |= TAGS
    if registration.locale is not UNSET:
        install.locale = registration.locale
        install.mask |= LOCALE
    if registration.time_zone is not UNSET:
        install.time_zone = registration.time_zone
        install.mask |= TIME_ZONE
    if registration.app_version is not UNSET:
        install.app_version = registration.app_version
        install.mask |= APP_VERSION
    if registration.os_version is not UNSET:
        install.os_version = registration.os_version
        install.mask |= OS_VERSION
    if registration.country is not UNSET:
        install.country = registration.country
        install.mask |= COUNTRY
    if registration.alias is not UNSET:
        install.alias = registration.alias
        install.mask |= ALIAS
    if registration.push_enabled is not UNSET:
        install.push_enabled = registration.push_enabled
        install.mask |= PUSH_ENABLED
    if registration.in_app_consent is not UNSET:
        install.in_app_consent = registration.in_app_consent
        install.mask |= CONSENT
