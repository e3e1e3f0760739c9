"""What Kumulos's SDKs ask for beside messages: what a page needs to subscribe, and somewhere to put crash reports."""

from __future__ import annotations

from pushd.commands import apps, credentials
from pushd.dialect import Dialect
from pushd.dialects.kumulos import wire
from pushd.errors import NotFoundError
from pushd.model.device import Environment, GatewayName, Kind, Route
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

CRASHES = ("/v1/track/{key}", "/v1/track/{key}/{kind}", "/v1/track/{key}/{kind}/{id}")


async def config(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET /v1/web/config: 404 where the app has no key of Web Push."""
    caller = await wire.either(kumulos, incoming)
    found = kumulos.context.keyring.find(Route(caller.app, Kind.WEBPUSH, Environment.PRODUCTION, ""))
    if found is None:
        raise NotFoundError("The app has no keys of Web Push")
    keys = await credentials.get(kumulos.context, caller.app, found)
    icon = (await apps.get(kumulos.context, caller.app)).settings.icon
    return wire.told(
        {
            "publicKey": keys.summary["public_key"],
            **({} if icon is None else {"iconUrl": icon}),
            "prompts": {},
            "safariPushId": _safari_id(kumulos, caller.app),
        }
    )


async def crash(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/track/…: taken, and not kept."""
    await wire.raw(kumulos, incoming)
    return wire.told({})


def _safari_id(kumulos: Dialect, app_id: int) -> str | None:
    """The website push id of the app's certificate."""
    for known, secret in kumulos.context.keyring.opened():
        if known.app_id == app_id and known.gateway is GatewayName.SAFARI and secret.bundles:
            return secret.bundles[0]
    return None
