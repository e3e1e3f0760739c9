"""The index over HTTP: /index/check, for the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pushd.api.operation import ADMINS, Operation, Scope
from pushd.api.request import Request
from pushd.commands import index_check
from pushd.commands.context import Context
from pushd.commands.index_check import CheckLine
from pushd.errors import ConflictError
from pushd.web.caller import Caller


async def check(context: Context, _: Caller, __: Request[None, None]) -> AsyncIterator[CheckLine]:
    """POST /index/check."""
    return await index_check.check(context)


OPERATIONS = (
    Operation(
        name="checkIndex",
        method="POST",
        path="/index/check",
        tag="index",
        summary="Compares the index in memory with the database",
        description="Everything that this daemon knows of devices, users, channels, segments and geofences is compared "
        "with the tables, in slices, while it works on; what is on its way through the change feed is no difference. "
        "One line (NDJSON) for each sort of difference, and a summary as the last line. It takes half a minute for a "
        "million devices.",
        handler=check,
        roles=ADMINS,
        scope=Scope.INSTALLATION,
        answer_lines=CheckLine,
        errors=(ConflictError,),
    ),
)
