"""Gateway credentials: put, replaced, paused, resumed, listed and deleted; secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Sequence

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.credentials import secrets
from pushd.errors import NotFoundError
from pushd.model.credential import Credential, CredentialState, Secret
from pushd.model.device import Environment, GatewayName

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

    NotFoundError; InvalidRequestError when the secret is not usable.
    """
    known = await get(context, app_id, credential_id)
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


async def delete(context: Context, app_id: int, credential_id: int) -> None:
    """Nothing, once the credential is gone and no link uses it. NotFoundError."""
    await context.whole(_delete(context, app_id, credential_id))


async def _put(
    context: Context, app_id: int, credential_id: int | None, environment: Environment, name: str, secret: Secret
) -> Credential:
    summary, plaintext = secrets.examine(secret, "/secret"), secrets.dump(secret)

    def seal(made_id: int) -> bytes:
        return context.vault.seal(app_id, made_id, plaintext)

    put = context.store.credentials.put
    made = await put(app_id, GatewayName.APNS, environment, name, summary, seal, credential_id=credential_id)
    await _apply(context, app_id)
    return _found(made)


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
