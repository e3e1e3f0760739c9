"""Retirements over HTTP: /retirements, counted and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands import retirements
from pushd.commands.context import Context
from pushd.commands.retirements import Revived
from pushd.model.device import ID_MAX
from pushd.store.retirements import Retired
from pushd.web.caller import Caller

UnixTime = Annotated[float, Meta(ge=0, le=2**33, description="UNIX seconds.")]


class Span(Struct, frozen=True):
    """When."""

    since: UnixTime = 0.0
    until: UnixTime | None = None


class Retirements(Struct, frozen=True):
    """Retired devices by reason and credential, the largest group first."""

    items: Sequence[Retired]


class Revival(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which retirements to take back."""

    since: UnixTime
    until: UnixTime | None = None
    reason: Annotated[str, Meta(max_length=100)] | None = None
    """As in the summary; absent: every reason."""
    credential_id: Annotated[int, Meta(ge=1, le=ID_MAX)] | None = None
    """Whose answers; absent: every credential's."""


async def summary(context: Context, caller: Caller, request: Request[None, Span]) -> Retirements:
    """GET /retirements."""
    span = request.params
    return Retirements(await retirements.summary(context, caller.app, since=span.since, until=span.until))


async def revive(context: Context, caller: Caller, request: Request[Revival, None]) -> Revived:
    """POST /retirements/revive."""
    body = request.body
    return await retirements.revive(
        context,
        caller.app,
        since=body.since,
        until=body.until,
        reason=body.reason,
        credential_id=body.credential_id,
    )


OPERATIONS = (
    Operation(
        name="getRetirements",
        method="GET",
        path="/retirements",
        tag="retirements",
        summary="Retired devices, counted by reason and credential",
        handler=summary,
        params=Span,
        answer=Retirements,
    ),
    Operation(
        name="reviveDevices",
        method="POST",
        path="/retirements/revive",
        tag="retirements",
        summary="Takes retirements back",
        description="For when a gateway said by mistake that tokens were dead: devices that were retired since then "
        "are sent to again. One that is dead after all is retired again by the next answer to it.",
        handler=revive,
        body=Revival,
        answer=Revived,
        example={"since": 1790000000, "reason": "Unregistered"},
    ),
)
