"""Erasures: a user is forgotten on request, at once where he is known by, and then wherever else he is spoken of."""

from __future__ import annotations

import asyncpg
import structlog

from pushd.commands.context import Context
from pushd.errors import NotFoundError, UnavailableError
from pushd.model.erasure import Erasure
from pushd.service import Service, is_set_within

log = structlog.get_logger(__name__)

AT_ONCE = 100
"""Erasures that are taken up at a time."""
LOOK_S = 60.0
"""How often it is looked for erasures that other nodes left unfinished."""


async def erase(context: Context, app_id: int, external_id: str) -> Erasure:
    """The erasure, once user, installs, devices and all that belongs to them are gone. NotFoundError."""
    return await context.whole(_erase(context, app_id, external_id))


async def get(context: Context, app_id: int, erasure_id: int) -> Erasure:
    """The erasure; NotFoundError."""
    found = await context.store.erasures.get(app_id, erasure_id)
    if found is None:
        raise NotFoundError("There is no such erasure")
    return found


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> list[Erasure]:
    """Erasures with ids below `before`, the newest first."""
    return [*await context.store.erasures.list(app_id, before, limit)]


async def _erase(context: Context, app_id: int, external_id: str) -> Erasure:
    begun = await context.store.erasures.begin(app_id, external_id)
    if begun is None:
        raise NotFoundError("There is no such user")
    context.index.apply_users(begun.users)
    context.index.apply_devices(begun.devices)
    for install_id in begun.installs:
        context.limits.forget(app_id, install_id)
    return begun.erasure


class Eraser(Service):
    """Looks for what is left of users who are to be forgotten; two nodes that do the same do no harm."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._erasures = context.store.erasures

    async def start(self) -> None:
        """Begins to look."""
        self._erasures.begun.set()
        self.spawn(self._run(), "erasures")

    async def sweep(self) -> int:
        """How many erasures were finished."""
        done = 0
        for each in await self._erasures.open(AT_ONCE):
            await self._erasures.sweep(each)
            await self._erasures.finish(each)
            log.info("user_erased", erasure=each.id, app=each.app_id)
            done += 1
        return done

    async def _run(self) -> None:
        while True:
            self._erasures.begun.clear()
            try:
                while await self.sweep():
                    pass
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("erasure_waits", error=type(error).__name__)
            await is_set_within(self._erasures.begun, LOOK_S)
