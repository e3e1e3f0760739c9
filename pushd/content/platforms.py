"""A message per platform: the renderer of each gateway in one table, and what a message cannot be there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pushd.batch import Rendered
from pushd.content import apns, email, fcm, hms, safari, webpush
from pushd.content.shapes import backendless, connectycube, kumulos
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.device import GatewayName, Shape
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.outcome import NOT_SUPPORTED, PAYLOAD_TOO_LARGE, Reason


class Renderer(Protocol):
    """Renders a message for one gateway."""

    def __call__(
        self, message: Message, send: Send, app: Settings, *, notification_id: int, now: float
    ) -> Rendered | None:
        """Payload, header values and expiry; None where nothing of the message means anything on the platform.

        `now` (UNIX seconds) is its release. InvalidRequestError when it is over the platform's limit (A-40).
        """


RENDERERS: Mapping[GatewayName, Renderer] = {
    GatewayName.APNS: apns.render,
    GatewayName.FCM: fcm.render,
    GatewayName.HMS: hms.render,
    GatewayName.SAFARI: safari.render,
    GatewayName.EMAIL: email.render,
    GatewayName.WEBPUSH: webpush.render,
}
"""Every platform that messages can be rendered for."""
SHAPES: Mapping[tuple[GatewayName, Shape], Renderer] = {
    (GatewayName.APNS, Shape.CONNECTYCUBE): connectycube.to_apns,
    (GatewayName.FCM, Shape.CONNECTYCUBE): connectycube.to_fcm,
    (GatewayName.WEBPUSH, Shape.CONNECTYCUBE): connectycube.to_webpush,
    (GatewayName.APNS, Shape.KUMULOS): kumulos.to_apns,
    (GatewayName.FCM, Shape.KUMULOS): kumulos.to_fcm,
    (GatewayName.HMS, Shape.KUMULOS): kumulos.to_hms,
    (GatewayName.WEBPUSH, Shape.KUMULOS): kumulos.to_webpush,
    (GatewayName.APNS, Shape.BACKENDLESS): backendless.to_apns,
    (GatewayName.FCM, Shape.BACKENDLESS): backendless.to_fcm,
}
"""Platforms on which a vendor's SDK reads payloads of its own; the worker that pushd has for Gravitec reads pushd's."""


def render(
    gateway: GatewayName,
    send: Send,
    app: Settings,
    *,
    notification_id: int,
    now: float,
    shape: Shape = Shape.OWN,
) -> Rendered | Reason:
    """A send's message on one platform in one shape, or the reason for which its rows there end without being sent.

    Sends are rendered before they are accepted: only settings or credentials that changed since can make one too large.
    """
    renderer = SHAPES.get((gateway, shape)) or RENDERERS.get(gateway)
    if renderer is None:
        return NOT_SUPPORTED
    try:
        rendered = renderer(send.message, send, app, notification_id=notification_id, now=now)
    except InvalidRequestError:
        return PAYLOAD_TOO_LARGE
    return NOT_SUPPORTED if rendered is None else rendered


def refuse_unfit(
    gateways: Collection[GatewayName],
    send: Send,
    app: Settings,
    *,
    notification_id: int,
    now: float,
    shapes: Mapping[GatewayName, Collection[Shape]],
) -> None:
    """Nothing, or InvalidRequestError with platform, field and excess where the message is too large for one.

    `shapes` are those of the app's devices; of a platform without any, pushd's own is asked.
    """
    for gateway in RENDERERS:
        if gateway in gateways:
            for shape in sorted(shapes.get(gateway) or (Shape.OWN,)):
                renderer = SHAPES.get((gateway, shape), RENDERERS[gateway])
                renderer(send.message, send, app, notification_id=notification_id, now=now)
