"""Kumulos's calls: those of back ends with the server key, and those of devices with the secret key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pushd.dialect import Call, Dialect, DialectKeys
from pushd.dialects.kumulos import (
    channels,
    gateways,
    geofences,
    in_app,
    inbox,
    installs,
    notifications,
    safari,
    subscriptions,
    web,
    wire,
)
from pushd.errors import ConflictError, InvalidRequestError, PushdError, UnknownTargetsError, UnsupportedMediaTypeError
from pushd.model.vendor_key import DialectName
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

Handler = Callable[[Dialect, Incoming], Awaitable[Answer]]
_ROOTS = frozenset(("v1", "v2", "notifications", "channels", "safari"))
_HOSTS = ("messages", "push", "events", "crm", "api", "links", "crash")
_WRONG = (InvalidRequestError, UnknownTargetsError, UnsupportedMediaTypeError)
_PREFLIGHT = {
    **wire.CORS,
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept",
    "Access-Control-Max-Age": "86400",
}
_FIELDS = {
    "message/title": "content.title",
    "message/body": "content.message",
    "message/url": "content.url",
    "message/data": "content.data",
    "message/android": "android",
    "message/media": "ios.media.pictureUrl",
    "message/image": "ios.media.pictureUrl",
    "message/badge": "ios.badge",
    "message/badge_increment": "ios.badge",
    "message/buttons": "buttons",
    "ttl_s": "ttl",
    "collapse_id": "collapseId",
    "schedule/send_at": "schedule.sendAt",
    "schedule/past_times": "schedule.pastTimes",
    "schedule/time_zone": "schedule.timezone",
    "release_window_minutes": "releaseWindowMinutes",
    "intelligent_delivery": "intelligentDelivery",
    "user_meta": "userMeta",
    "reporting_meta": "reportingMeta",
    "content_tags": "content",
    "push": "notification",
    "inbox/available_to": "inbox.availability.to",
    "inbox/available_from": "inbox.availability.from",
    "bounds": "boundsGeoJson",
}
"""What the vendor calls fields of ours, by how they begin."""


class Kumulos(Dialect):
    """The messaging API, and what the SDKs of apps call."""

    name = DialectName.KUMULOS
    hosts = frozenset(f"{name}.kumulos.com" for name in _HOSTS)

    def __init__(self, context: Any, keys: DialectKeys) -> None:
        super().__init__(context, keys)
        for path in {path for _, path in self.router.templates}:
            self.router.add("OPTIONS", path, _preflight)

    def calls(self) -> tuple[Call, ...]:
        """First those of back ends, in the order of the vendor's page, then those of devices."""
        return (*self._of_servers(), *self._of_devices())

    def _of_servers(self) -> tuple[Call, ...]:
        opens = "/notifications/{id}"
        return (
            *self._call("POST", ("/v2/notifications",), "Send a notification, now or later", notifications.send),
            *self._call("POST", ("/notifications", "/v1/notifications"), "The same, flat", notifications.send),
            *self._call(
                "POST", ("/v1/templated-notifications",), "Send one by a template", notifications.send_templated
            ),
            *self._call("POST", ("/v1/in-app-messages",), "Send an in-app message", in_app.send),
            *self._call("POST", ("/v1/templates/in-app",), "Make a template for such", in_app.create_template),
            *self._call("PUT", ("/v1/templates/in-app/{uid}",), "Change it", in_app.change_template),
            *self._call(
                "DELETE", ("/v2/scheduled-notifications/{id}",), "Cancel one before its time", notifications.cancel
            ),
            *self._call(
                "GET", _versions(f"{opens}/install-opens"), "Installs that opened it", notifications.install_opens
            ),
            *self._call("GET", _versions(f"{opens}/user-opens"), "Users that opened it", notifications.user_opens),
            *self._call("POST", ("/v1/geofences",), "Make a geofence", geofences.create),
            *self._call("POST", ("/channels",), "Make a channel", channels.create),
            *self._call("PUT", ("/channels/{id}", "/v1/channels/{id}"), "Change a channel", channels.change),
            *self._call("DELETE", ("/channels/{id}", "/v1/channels/{id}"), "Delete a channel", channels.delete),
            *self._call(
                "POST", ("/v2/channels/{uuid}/subscriptions",), "Subscribe installs or users", channels.subscribe
            ),
            *self._call("DELETE", ("/v2/channels/{uuid}/subscriptions",), "Take them off again", channels.unsubscribe),
            *self._call(
                "POST",
                ("/v2/channels/{uuid}/subscribers-file",),
                "Subscribe the users of a CSV",
                channels.subscribe_file,
            ),
            *self._call("PUT", ("/v1/apps/{id}",), "Configure gateways", gateways.configure),
            *self._call("GET", ("/v1/apps/{id}",), "Which gateways are configured", gateways.show),
        )

    def _of_devices(self) -> tuple[Call, ...]:
        install = "/v1/app-installs/{id}"
        listed = (f"{subscriptions.USERS}{{id}}/channels", f"{install}/channels")
        own = tuple(f"{path}/subscriptions" for path in listed)
        return (
            *self._call("POST", (f"{install}/events",), "What happened on an install, registration too", installs.take),
            *self._call("PUT", (install,), "What an install is, from SDKs of old", installs.put),
            *self._call("GET", ("/v1/users/{id}/messages",), "In-app messages, by user or install", inbox.fetch),
            *self._call("GET", listed, "Channels, by user or install", subscriptions.listing),
            *self._call("POST", own, "Subscribe to channels", subscriptions.subscribe),
            *self._call("DELETE", own, "Leave channels", subscriptions.unsubscribe),
            *self._call("PUT", own, "Be subscribed to these and no others", subscriptions.replace),
            *self._call("POST", ("/v1/channels",), "Make a channel, and subscribe to it", subscriptions.create),
            *self._call("GET", ("/v1/web/config",), "What a web page needs to subscribe", web.config),
            *self._call("POST", web.CRASHES, "Crash reports: taken, and not kept", web.crash),
            *self._call("PUT", web.CRASHES, "The same", web.crash),
            *safari.calls(self),
        )

    def _call(self, method: str, paths: tuple[str, ...], summary: str, handler: Handler) -> tuple[Call, ...]:
        return tuple(Call(method, path, summary, partial(handler, self)) for path in paths)

    def owns_path(self, path: str) -> bool:
        """The vendor's versions and collections, and what is in them."""
        return path.split("/", 2)[1] in _ROOTS

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """Wrong fields by their names with 422; for all else one `error`."""
        headers = problem.headers(error)
        headers.pop("WWW-Authenticate", None)
        if isinstance(error, _WRONG) and incoming.route:
            return wire.told(_by_field(error), 422, headers)
        status = 400 if isinstance(error, ConflictError) else error.status
        detail = "Something went wrong" if error.status == 500 else error.detail
        return wire.told({"error": detail}, status, headers)


def _versions(path: str) -> tuple[str, ...]:
    return (path, f"/v1{path}", f"/v2{path}")


def _by_field(error: PushdError) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for fault in error.faults:
        told.setdefault(_field(fault.pointer.removeprefix("/")), []).append(fault.detail)
    return told or {"body": [error.detail]}


def _field(pointer: str) -> str:
    """A pointer as the vendor names the field."""
    parts = pointer.split("/")
    if parts[0] == "audience":  # how it is put together there is no concern of theirs
        return "target"
    for end in range(len(parts), 0, -1):
        if (known := _FIELDS.get("/".join(parts[:end]))) is not None:
            return ".".join((known, *parts[end:]))
    return ".".join(parts) or "body"


async def _preflight(_: Incoming) -> Answer:
    return Answer(status=204, headers=_PREFLIGHT)
