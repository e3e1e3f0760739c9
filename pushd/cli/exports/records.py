"""Records from rows: what a row says of an install, an address, a user or a channel, as a line of an import."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from pushd.cli.exports.fields import (
    InvalidRowError,
    Names,
    Said,
    apple_token,
    as_bool,
    as_list,
    as_object,
    as_value,
    plain,
)
from pushd.cli.exports.rows import Row, RowFault, Rows
from pushd.model.device import Kind

if TYPE_CHECKING:
    from pushd.cli.exports.externals import Externals

RECORD_BYTES_MAX = 256 * 1024
KINDS = {
    **{kind.value.replace("_", ""): kind for kind in Kind},
    **dict.fromkeys(("ios", "iphone", "ipad", "ipados", "iosdevice", "apn", "macos", "osx"), Kind.APNS),
    **dict.fromkeys(("android", "gcm", "firebase", "google", "androiddevice"), Kind.FCM),
    **dict.fromkeys(("web", "browser", "chrome", "firefox", "edge", "opera", "vapid"), Kind.WEBPUSH),
    **dict.fromkeys(("huawei", "hcm", "pushkit"), Kind.HMS),
    "voip": Kind.APNS_VOIP,
    "mail": Kind.EMAIL,
}
"""Kinds by what platforms and channels are called."""
PLATFORMS = {
    **dict.fromkeys(("ios", "iphone", "ipad", "ipados", "apns", "apnsvoip", "apn"), "ios"),
    **dict.fromkeys(("android", "gcm", "fcm", "firebase", "google"), "android"),
    **dict.fromkeys(("web", "browser", "chrome", "firefox", "edge", "opera", "safari", "webpush"), "web"),
    **dict.fromkeys(("macos", "osx"), "macos"),
    **dict.fromkeys(("huawei", "hms", "hcm"), "huawei"),
    **dict.fromkeys(("email", "mail"), "email"),
}
ENVIRONMENTS = {
    **dict.fromkeys(("development", "dev", "sandbox", "debug"), "sandbox"),
    **dict.fromkeys(("production", "prod", "live", "release", "store", "adhoc"), "production"),
}
INSTALL_TEXTS = ("locale", "country", "time_zone", "app_version", "os_version", "alias")
DEVICE_TEXTS = ("bundle", "user_id", *INSTALL_TEXTS, "shape")
DEVICE_FIELDS = frozenset(("kind", "platform", "tags", "user_id", *INSTALL_TEXTS))
"""What makes a row one about a device, where it names an install and no address."""
APPLES = frozenset(kind for kind in Kind if kind.gateway.value == "apns" and kind is not Kind.APNS_CHANNEL)


def _as_it_is(_: Said) -> None:
    """What generic files say needs no reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where an export comes from: what its columns are called, and what its values mean."""

    name: str
    columns: Mapping[str, Sequence[str]]
    read: Callable[[Said], None] = _as_it_is
    """Turns values of the service's into those of the fields. InvalidRowError."""
    attributes_of_users: bool = False
    """Columns that stand for no field are attributes, in rows that are about a user and no device."""
    not_attributes: frozenset[str] = field(default_factory=frozenset)
    """Columns that say nothing of a user, as `plain` spells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A row and what became of it."""

    row: Row
    line: bytes
    """A line of the import, without its end; empty where the row cannot be imported."""
    fault: RowFault | None
    said: Said | None


class Conversion:
    """A file of a service's as lines of an import: the n-th row is the n-th line, blank where it cannot be imported."""

    def __init__(
        self,
        service: Service,
        rows: Rows,
        mapped: Mapping[str, str],
        fixed: Mapping[str, str],
        externals: Externals | None = None,
    ) -> None:
        """`externals`: external ids of the users that rows name by number. InvalidRequestError for unknown fields."""
        self.service, self.rows = service, rows
        self._externals = externals
        self._names = Names(service.columns, mapped, fixed)

    def __iter__(self) -> Iterator[Made]:
        """Every row."""
        for row in self.rows:
            yield self._made(row)

    @property
    def unused(self) -> list[str]:
        """Columns of a CSV file that nothing is taken from."""
        return [] if self.service.attributes_of_users else self._names.unused(self.rows.header)

    def column(self, name: str, said: Said | None) -> str:
        """The column that says a field, as it is told to people; the field itself where none does."""
        return name if said is None else said.columns.get(name, name)

    def _made(self, row: Row) -> Made:
        if row.fault is not None:
            return Made(row=row, line=b"", fault=row.fault, said=None)
        said = self._names.said(row.values)
        try:
            if self._externals is not None and not said.text("user_id") and (owner := said.text("_owner")):
                said.values["user_id"] = self._externals.of(owner)
            self.service.read(said)
            line = _written(self._record(said))
        except InvalidRowError as error:
            return Made(row=row, line=b"", fault=RowFault(self.column(error.name, said), error.detail), said=said)
        except TypeError as error:  # a number of more than 64 bits, or a text that is no Unicode
            return Made(row=row, line=b"", fault=RowFault("", f"cannot be written as JSON: {error}"), said=said)
        return Made(row=row, line=line, fault=None, said=said)

    def _record(self, said: Said) -> dict[str, Any]:
        """What is said, as an import takes it."""
        record: dict[str, Any] = {}
        if said.values.get("channel"):
            record["channel"] = _channel(said)
        device = _device(said)
        if device is not None:
            record["devices"] = [device]
        install_id = device["install_id"] if device is not None else said.text("install_id")
        if install_id and said.values.get("channels"):
            record["install"] = {"install_id": install_id, "subscribe": as_list("channels", said.values["channels"])}
        user = self._user(said, has_device=device is not None or "install" in record)
        if user is not None:
            record["user"] = user
        if not record:
            raise InvalidRowError("install_id", "is missing, and so are a token, a user and a channel")
        return record

    def _user(self, said: Said, *, has_device: bool) -> dict[str, Any] | None:
        """The user of a row, where more is said than whose a device is."""
        name = said.text("user_id")
        if not name:
            return None
        user: dict[str, Any] = {"external_id": name}
        if email := said.text("email"):
            user["email"] = email
        if "user_tags" in said.values:
            user["tags"] = as_list("user_tags", said.values["user_tags"])
        if "user_channels" in said.values:
            user["subscribe"] = as_list("user_channels", said.values["user_channels"])
        given = as_object("attributes", said.values["attributes"]) if "attributes" in said.values else {}
        rest = said.rest if self.service.attributes_of_users and not has_device else {}
        others = {name: value for name, value in rest.items() if plain(name) not in self.service.not_attributes}
        told = others | given | said.attributes
        if self.rows.form == "csv":
            told = {key: as_value(value) for key, value in told.items()}
        if attributes := {key: value for key, value in told.items() if _is_attribute(value)}:
            user["attributes"] = attributes
        return user if len(user) > 1 or not has_device else None


def _written(record: dict[str, Any]) -> bytes:
    line = orjson.dumps(record)
    if len(line) > RECORD_BYTES_MAX:
        raise InvalidRowError("", f"is longer than {RECORD_BYTES_MAX:,} bytes")
    return line


def _channel(said: Said) -> dict[str, Any]:
    channel: dict[str, Any] = {"uuid": said.text("channel"), "name": said.text("channel_name")}
    if "channel_in_portal" in said.values:
        channel["show_in_portal"] = as_bool("channel_in_portal", said.values["channel_in_portal"])
    if "channel_meta" in said.values:
        channel["meta"] = as_object("channel_meta", said.values["channel_meta"])
    return channel


def _device(said: Said) -> dict[str, Any] | None:
    """The address of a row, or its install without one; None where the row is about neither."""
    subscription = _subscription(said)
    token = "" if subscription is not None else said.text("token")
    install_id = said.text("install_id")
    if not (token or subscription or (install_id and not DEVICE_FIELDS.isdisjoint(said.values))):
        return None
    kind = _kind(said, is_web=subscription is not None)
    device: dict[str, Any] = {"kind": kind.value}
    if subscription is not None:
        device["subscription"] = subscription
        token = subscription["endpoint"]
    elif token:
        device["token"] = token = apple_token(token) if kind in APPLES else token
    device["install_id"] = install_id or f"token:{hashlib.sha256(token.encode()).hexdigest()[:32]}"
    if environment := said.text("environment"):
        if plain(environment) not in ENVIRONMENTS:
            raise InvalidRowError("environment", "is neither production nor sandbox")
        device["environment"] = ENVIRONMENTS[plain(environment)]
    for name in DEVICE_TEXTS:
        if name in said.values and (text := said.text(name)):
            device[name] = text
    if platform := said.text("platform"):
        device["platform"] = PLATFORMS.get(plain(platform), "other")
    if "tags" in said.values:
        device["tags"] = as_list("tags", said.values["tags"])
    for name in ("push_enabled", "in_app_consent"):
        if name in said.values:
            device[name] = as_bool(name, said.values[name])
    return device


def _kind(said: Said, *, is_web: bool) -> Kind:
    """What sort of address it is: as is said, else by platform."""
    if is_web:
        return Kind.WEBPUSH
    if text := said.text("kind"):
        if (kind := KINDS.get(plain(text))) is None:
            raise InvalidRowError("kind", f"{text[:40]} is no kind of address")
        return kind
    kind = KINDS.get(plain(said.text("platform")))
    if kind is None:
        raise InvalidRowError("kind", "is missing: apns, fcm, webpush or another; --set kind=… says it of all rows")
    return kind


def _subscription(said: Said) -> dict[str, Any] | None:
    """A browser's subscription, from columns of its own or as the JSON that the browser gave."""
    whole = next((said.values[name] for name in ("subscription", "token") if _is_object(said.values.get(name))), None)
    if whole is not None:
        given = as_object("subscription", whole)
        keys = given.get("keys") if isinstance(given.get("keys"), dict) else given
        assert isinstance(keys, dict)
        said.values |= {"endpoint": given.get("endpoint"), "p256dh": keys.get("p256dh"), "auth": keys.get("auth")}
    endpoint = said.text("endpoint")
    if not endpoint:
        return None
    for name in ("p256dh", "auth"):
        if not said.text(name):
            raise InvalidRowError(name, "is missing: nothing can be encrypted for this subscription")
    subscription: dict[str, Any] = {
        "endpoint": endpoint,
        "keys": {name: said.text(name).rstrip("=").replace("+", "-").replace("/", "_") for name in ("p256dh", "auth")},
    }
    if key := said.text("application_server_key"):
        subscription["application_server_key"] = key
    return subscription


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and value.lstrip().startswith("{"))


def _is_attribute(value: Any) -> bool:
    """Numbers, truths, texts and lists of texts; what is deeper is nobody's to select by."""
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str | int | float | bool)
