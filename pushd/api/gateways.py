"""The gateway configuration of an app over HTTP: /gateways."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands import gateways
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.gateways import Gateways, PlatformStatus
from pushd.web.caller import Caller


class Configured(Struct, frozen=True, kw_only=True):
    """The platforms that an app has credentials for."""

    platforms: list[PlatformStatus]


async def configure(context: Context, caller: Caller, request: Request[Gateways, None]) -> Configured:
    """PUT /gateways."""
    return Configured(platforms=await gateways.configure(context, caller.app, request.body))


async def show(context: Context, caller: Caller, _: Request[None, None]) -> Configured:
    """GET /gateways."""
    return Configured(platforms=await gateways.status(context, caller.app))


_EXAMPLE = {
    "ios": {
        "p8": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
        "key_id": "KEY1234567",
        "team_id": "ABCDE12345",
        "bundle_id": "com.example.orchard",
    },
    "web": {"icon_url": "https://example.com/icon.png", "subject": "mailto:push@example.com"},
    "safari": {"p12": "MIIKzAIBAzCC…", "password": "…", "site_url": "https://example.com"},
}

OPERATIONS = (
    Operation(
        name="configureGateways",
        method="PUT",
        path="/gateways",
        tag="credentials",
        summary="Configures the gateways of an app, platform by platform",
        description="Makes or replaces one credential per platform and environment. Platforms that are not named stay "
        "as they are; nothing is put unless all of it can be. A p8 key and a p12 certificate exclude each other.",
        handler=configure,
        body=Gateways,
        answer=Configured,
        errors=(ConflictError,),
        example=_EXAMPLE,
    ),
    Operation(
        name="showGateways",
        method="GET",
        path="/gateways",
        tag="credentials",
        summary="Which platforms an app is configured for, and since when",
        handler=show,
        answer=Configured,
    ),
)
