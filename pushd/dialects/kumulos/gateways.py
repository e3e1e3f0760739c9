"""Gateways of an app as Kumulos configures them: what one body says becomes credentials, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pushd.commands import apps, credentials
from pushd.commands.context import Context
from pushd.credentials import secrets
from pushd.dialect import Dialect
from pushd.dialects.kumulos import wire
from pushd.dialects.kumulos.fields import Fields
from pushd.dialects.kumulos.platforms import Wanted, parse
from pushd.errors import Fault, ForbiddenError, InvalidRequestError
from pushd.model.credential import Credential, Secret
from pushd.model.device import Environment, GatewayName
from pushd.web.answer import Answer
from pushd.web.caller import Caller
from pushd.web.incoming import Incoming

CREDENTIAL = "kumulos"
"""The name of what is made here; the same again is replaced."""
CREDENTIALS_MAX = 1_000
ACCOUNT = 1
"""There is one account: this installation."""
TYPES = {
    GatewayName.APNS: 1,
    GatewayName.FCM: 2,
    GatewayName.WEBPUSH: 3,
    GatewayName.SAFARI: 4,
    GatewayName.HMS: 5,
}


async def configure(kumulos: Dialect, incoming: Incoming) -> Answer:
    """PUT /v1/apps/{appId}."""
    caller = await _caller(kumulos, incoming)
    given = await wire.body(kumulos, incoming)
    wanted = parse(given)
    icon = (given.within("web") or Fields({})).url("iconUrl")
    given.check()
    context = kumulos.context
    known = await credentials.list_page(context, caller.app, after=0, limit=CREDENTIALS_MAX)
    wanted = [each for each in wanted if each.field != "web" or not _of(known, GatewayName.WEBPUSH)]
    for each in wanted:
        for environment in each.environments:
            _checked(context, each, environment)
    for each in wanted:
        for environment in each.environments:
            await _put(context, caller.app, each.secret, environment, known)
    if icon is not None:
        app = await apps.get(context, caller.app)
        await apps.update(context, caller.app, None, msgspec.structs.replace(app.settings, icon=icon))
    return await _shown(context, caller.app)


async def show(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET /v1/apps/{appId}."""
    caller = await _caller(kumulos, incoming)
    return await _shown(kumulos.context, caller.app)


async def _caller(kumulos: Dialect, incoming: Incoming) -> Caller:
    caller = await wire.server(kumulos, incoming)
    if wire.path_number(incoming, "app") != caller.app:
        raise ForbiddenError("These keys belong to another app")
    return caller


def _checked(context: Context, wanted: Wanted, environment: Environment) -> None:
    try:
        credentials.check(context, secrets.complete(wanted.secret, None), environment)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.detail, faults=[Fault(f"/{wanted.field}", error.faults[0].detail)]) from None


async def _put(
    context: Context, app_id: int, secret: Secret, environment: Environment, known: Sequence[Credential]
) -> None:
    for each in known:
        if (each.gateway, each.environment, each.name) == (secret.gateway, environment, CREDENTIAL):
            await credentials.replace(context, app_id, each.id, secret)
            return
    await credentials.create(context, app_id, environment, CREDENTIAL, secret)


def _of(known: Sequence[Credential], gateway: GatewayName) -> list[Credential]:
    return [each for each in known if each.gateway is gateway]


async def _shown(context: Context, app_id: int) -> Answer:
    app = await apps.get(context, app_id)
    known = await credentials.list_page(context, app_id, after=0, limit=CREDENTIALS_MAX)
    configs = [
        {
            "platformType": number,
            "createdAt": wire.iso(min(each.created_at for each in own)),
            "updatedAt": wire.iso(max(each.updated_at for each in own)),
        }
        for gateway, number in TYPES.items()
        if (own := _of(known, gateway))
    ]
    return wire.told(
        {
            "id": app_id,
            "accountId": ACCOUNT,
            "createdAt": wire.iso(app.created_at),
            "updatedAt": wire.iso(max([app.created_at, *(each.updated_at for each in known)])),
            "platformConfigs": sorted(configs, key=lambda config: config["platformType"]),
        }
    )
