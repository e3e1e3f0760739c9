"""Gateway credentials: put, replaced, paused, resumed, listed and deleted; secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Sequence

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.credentials import secrets
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.gateway import Proof
from pushd.model.audience import Broadcast
from pushd.model.credential import Credential, CredentialState, Secret
from pushd.model.device import Environment, Kind, Route

PAUSED_BY_CALLER = "paused by request"


async def create(context: Context, app_id: int, environment: Environment, name: str, secret: Secret) -> Credential:
    """The new credential, in use at once.

    InvalidRequestError when its secret is not usable; ConflictError when there is one of that name for the same
    gateway and environment.
    """
    check_text({"name": name})
    return await context.whole(_put(context, app_id, None, environment, name, secret))


async def replace(context: Context, app_id: int, credential_id: int, secret: Secret) -> Credential:
    """The credential with another secret, resumed if it was paused; messages that waited for it go out.

    NotFoundError; InvalidRequestError when the secret is not usable, or is another gateway's.
    """
    known = await get(context, app_id, credential_id)
    if secret.gateway is not known.gateway:
        fault = Fault("/secret/type", f"is not a secret of {known.gateway.value}, whose credential this is")
        raise InvalidRequestError("The secret is another gateway's", faults=[fault])
    return await context.whole(_put(context, app_id, credential_id, known.environment, known.name, secret))


async def get(context: Context, app_id: int, credential_id: int) -> Credential:
    """The credential; NotFoundError."""
    return _found(await context.store.credentials.get(app_id, credential_id))


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> Sequence[Credential]:
    """Credentials of the app with ids above `after`, ascending."""
    return await context.store.credentials.list(app_id, after, limit)


async def pause(context: Context, app_id: int, credential_id: int) -> Credential:
    """The credential, paused; its messages wait. NotFoundError."""
    return await context.whole(_pause(context, app_id, credential_id))


async def resume(context: Context, app_id: int, credential_id: int) -> Credential:
    """The credential, in use again; messages that waited for it go out. NotFoundError."""
    return await context.whole(_resume(context, app_id, credential_id))


async def prove(context: Context, app_id: int, credential_id: int, bundle: str | None) -> Proof:
    """What its gateway says of the credential, asked without sending; nothing is resumed or paused by it.

    `bundle`: for which of the app's bundles; absent, one that the credential names or that a device of the app has.
    NotFoundError; InvalidRequestError where there is none and the gateway needs one.
    """
    credential = await get(context, app_id, credential_id)
    gateway = context.gateways.get(credential.gateway)
    if gateway is None:
        return Proof(None, "this daemon has no such gateway")
    route = _route(context, credential, bundle)
    return await gateway.prove(route, credential_id)


def _route(context: Context, credential: Credential, bundle: str | None) -> Route:
    """The route to ask for: the gateway's ordinary kind, and a bundle that the credential serves."""
    kind = Kind(credential.gateway.value)
    asked = Route(credential.app_id, kind, credential.environment, bundle or "")
    if bundle is None:
        secret = context.keyring.secret(credential.id)
        here = context.index.resolve(credential.app_id, Broadcast(), frozenset({kind})).devices
        routes = [route for route, _ in context.index.routes(credential.app_id, here)]
        fitting = [route for route in routes if route.environment is credential.environment]
        asked = next((route for route in fitting if secret is None or secret.serves(route.bundle)), asked)
        if not asked.bundle and secret is not None and secret.bundles:
            asked = asked._replace(bundle=secret.bundles[0])
    if kind is Kind.APNS and not asked.bundle:
        fault = Fault("/bundle", "is required: the credential names no topic, and no device of the app has one yet")
        raise InvalidRequestError("Which bundle to ask for is not known", faults=[fault])
    return asked


async def delete(context: Context, app_id: int, credential_id: int) -> None:
    """Nothing, once the credential is gone and no link uses it. NotFoundError."""
    await context.whole(_delete(context, app_id, credential_id))


async def _put(
    context: Context, app_id: int, credential_id: int | None, environment: Environment, name: str, secret: Secret
) -> Credential:
    if credential_id is not None:
        await context.keyring.reload([app_id])  # another node may have changed it a moment ago
    known = None if credential_id is None else context.keyring.secret(credential_id)
    secret = secrets.complete(secret, known)
    summary, plaintext = check(context, secret, environment), secrets.dump(secret)

    def seal(made_id: int) -> bytes:
        return context.vault.seal(app_id, made_id, plaintext)

    put = context.store.credentials.put
    made = await put(app_id, secret.gateway, environment, name, summary, seal, credential_id=credential_id)
    await _apply(context, app_id)
    return _found(made)


def check(context: Context, secret: Secret, environment: Environment) -> dict[str, str]:
    """What may be shown of a secret; InvalidRequestError for one that is not usable, or not in this environment."""
    summary, now = secrets.examine(secret, "/secret"), context.clock.now()
    if environment not in secret.environments:
        fault = Fault("/environment", f"the secret serves {', '.join(secret.environments)} only")
        raise InvalidRequestError("The credential is not for this environment", faults=[fault])
    if secret.expires_at is not None and secret.expires_at <= now:
        raise InvalidRequestError("The credential has expired", faults=[Fault("/secret", "has expired")])
    return summary


async def _pause(context: Context, app_id: int, credential_id: int) -> Credential:
    paused = CredentialState.PAUSED
    credential = _found(await context.store.credentials.set_state(app_id, credential_id, paused, PAUSED_BY_CALLER))
    await _apply(context, app_id)
    return credential


async def _resume(context: Context, app_id: int, credential_id: int) -> Credential:
    await get(context, app_id, credential_id)
    await context.keyring.reload([app_id])  # another node may have made it a moment ago
    await context.keyring.resume(credential_id)  # which also lifts pauses that only memory knows
    context.fanout.credentials_changed()
    return await get(context, app_id, credential_id)


async def _delete(context: Context, app_id: int, credential_id: int) -> None:
    if not await context.store.credentials.delete(app_id, credential_id):
        raise NotFoundError("There is no such credential")
    await _apply(context, app_id)


async def _apply(context: Context, app_id: int) -> None:
    await context.keyring.reload([app_id])
    context.fanout.credentials_changed()


def _found(credential: Credential | None) -> Credential:
    if credential is None:
        raise NotFoundError("There is no such credential")
    return credential
