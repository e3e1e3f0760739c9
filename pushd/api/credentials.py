"""Gateway credentials over HTTP: /credentials."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import credentials
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.credential import Credential, Secret
from pushd.model.device import ID_MAX, Environment
from pushd.web.caller import Caller


class OneCredential(Struct, frozen=True):
    """A credential in the path."""

    credential_id: Annotated[int, Meta(ge=1, le=ID_MAX)]


class CredentialBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credential as it is uploaded."""

    secret: Secret
    """Encrypted in the store with the installation's master key; no answer ever holds it."""
    environment: Environment = Environment.PRODUCTION
    """Whose devices it serves. For both environments upload the key twice."""
    name: Annotated[str, Meta(max_length=255)] = ""
    """For people; one credential of a name for each gateway and environment."""


class NewSecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another secret for a credential."""

    secret: Secret


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the app's bundles to ask for."""

    bundle: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    """Absent: one that the credential names, or that a device of the app has."""


class ProofView(Struct, frozen=True, kw_only=True):
    """What a gateway says of a credential."""

    accepted: bool | None
    """Null: it could not be asked."""
    reason: str
    """In the gateway's words, or in ours where it said nothing."""


async def create(context: Context, caller: Caller, request: Request[CredentialBody, None]) -> Credential:
    """POST /credentials."""
    body = request.body
    return await credentials.create(context, caller.app, body.environment, body.name, body.secret)


async def replace(context: Context, caller: Caller, request: Request[NewSecret, OneCredential]) -> Credential:
    """PUT /credentials/{credential_id}."""
    return await credentials.replace(context, caller.app, request.params.credential_id, request.body.secret)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Credential]:
    """GET /credentials."""
    found = await credentials.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [credential.id for credential in found])


async def show(context: Context, caller: Caller, request: Request[None, OneCredential]) -> Credential:
    """GET /credentials/{credential_id}."""
    return await credentials.get(context, caller.app, request.params.credential_id)


async def pause(context: Context, caller: Caller, request: Request[None, OneCredential]) -> Credential:
    """POST /credentials/{credential_id}/pause."""
    return await credentials.pause(context, caller.app, request.params.credential_id)


async def resume(context: Context, caller: Caller, request: Request[None, OneCredential]) -> Credential:
    """POST /credentials/{credential_id}/resume."""
    return await credentials.resume(context, caller.app, request.params.credential_id)


async def prove(context: Context, caller: Caller, request: Request[Question, OneCredential]) -> ProofView:
    """POST /credentials/{credential_id}/test."""
    said = await credentials.prove(context, caller.app, request.params.credential_id, request.body.bundle)
    return ProofView(accepted=said.accepted, reason=said.reason)


async def delete(context: Context, caller: Caller, request: Request[None, OneCredential]) -> None:
    """DELETE /credentials/{credential_id}."""
    await credentials.delete(context, caller.app, request.params.credential_id)


_EXAMPLE = {
    "secret": {
        "type": "apns_token",
        "team_id": "ABCDE12345",
        "key_id": "KEY1234567",
        "private_key": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
        "topics": ["com.example.orchard"],
    },
    "environment": "production",
    "name": "Team key",
}

OPERATIONS = (
    Operation(
        name="createCredential",
        method="POST",
        path="/credentials",
        tag="credentials",
        summary="Uploads a credential",
        description="It is checked, encrypted, and in use at once.",
        handler=create,
        body=CredentialBody,
        answer=Credential,
        statuses=(201,),
        errors=(ConflictError,),
        example=_EXAMPLE,
    ),
    Operation(
        name="listCredentials",
        method="GET",
        path="/credentials",
        tag="credentials",
        summary="Credentials, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[Credential],
    ),
    Operation(
        name="getCredential",
        method="GET",
        path="/credentials/{credential_id}",
        tag="credentials",
        summary="One credential, without its secret",
        handler=show,
        params=OneCredential,
        answer=Credential,
    ),
    Operation(
        name="replaceCredential",
        method="PUT",
        path="/credentials/{credential_id}",
        tag="credentials",
        summary="Replaces a credential's secret",
        description="A credential that the gateway had refused is resumed, and the messages that waited for it go out.",
        handler=replace,
        params=OneCredential,
        body=NewSecret,
        answer=Credential,
        example={"secret": _EXAMPLE["secret"]},
    ),
    Operation(
        name="pauseCredential",
        method="POST",
        path="/credentials/{credential_id}/pause",
        tag="credentials",
        summary="Pauses a credential",
        description="Its messages wait until it is resumed or replaced, or until they expire.",
        handler=pause,
        params=OneCredential,
        answer=Credential,
    ),
    Operation(
        name="resumeCredential",
        method="POST",
        path="/credentials/{credential_id}/resume",
        tag="credentials",
        summary="Resumes a paused credential",
        handler=resume,
        params=OneCredential,
        answer=Credential,
    ),
    Operation(
        name="testCredential",
        method="POST",
        path="/credentials/{credential_id}/test",
        tag="credentials",
        summary="Asks the gateway whether it takes a credential",
        description="Nothing is sent to anyone, and the credential stays as it is, in use or paused.",
        handler=prove,
        params=OneCredential,
        body=Question,
        answer=ProofView,
        example={"bundle": "com.example.orchard"},
    ),
    Operation(
        name="deleteCredential",
        method="DELETE",
        path="/credentials/{credential_id}",
        tag="credentials",
        summary="Deletes a credential",
        description="Messages for devices that no other credential serves end as misconfigured.",
        handler=delete,
        params=OneCredential,
        statuses=(204,),
    ),
)
