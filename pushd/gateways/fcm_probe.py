"""Doubtful registration tokens: asked about once more, with a message that cannot be at fault, before any is retired.

FCM answers INVALID_ARGUMENT to a token that is none, and also to some messages. A row whose refusal blames its token
waits here while the same token is sent in a minimal `validate_only` message (F-17): if FCM refuses that too, it is the
token. One batch of such questions is on its way at a time, and how many may wait is bounded; past it the token is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from protocols.fcm_reasons import INVALID_ARGUMENT, INVALID_TOKEN, INVALID_TOKEN_CONFIRMED
from pushd.batch import Batch, Rendered
from pushd.gateways.fcm_exchange import REASONS
from pushd.outcome import ACCEPTED, VENDOR_CODES_FROM, Outcome
from pushd.transport.queue import Sending

BATCH_ROWS_MAX = 200
KEPT = VENDOR_CODES_FROM + INVALID_TOKEN
CONFIRMED = VENDOR_CODES_FROM + INVALID_TOKEN_CONFIRMED
MESSAGE = VENDOR_CODES_FROM + INVALID_ARGUMENT

Doubtful = tuple[Sending, int]


class Prober:
    """The doubtful tokens of one pool."""

    def __init__(
        self,
        ask: Callable[[Batch], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
        waiting_max: int,
    ) -> None:
        self._ask = ask
        """Sends a batch of questions; returns when each has its outcome."""
        self._spawn = spawn
        self._waiting_max = waiting_max
        self._waiting: list[Doubtful] = []
        self._task: asyncio.Task[Any] | None = None

    def doubt(self, sending: Sending, row: int) -> None:
        """Settles a row of a batch once its token was asked about."""
        if len(self._waiting) >= self._waiting_max:
            sending.settle(np.array([row]), KEPT)
            return
        self._waiting.append((sending, row))
        if self._task is None:
            self._task = self._spawn(self._work(), "fcm-probe")
            self._task.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[Any]) -> None:
        """Whatever ended the questions, no row stays without an outcome."""
        self._task = None
        waiting, self._waiting = self._waiting, []
        for sending, row in waiting:
            sending.settle(np.array([row]), KEPT)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # the answers of one read come together
            asked = self._waiting[:BATCH_ROWS_MAX]
            first = asked[0][0].batch
            batch = Batch(
                route=first.route,
                credential_id=first.credential_id,
                lane=first.lane,
                ids=np.array([sending.batch.ids[row] for sending, row in asked], np.uint32),
                tokens=np.array([bytes(sending.batch.tokens[row]) for sending, row in asked]),
                revisions=np.zeros(len(asked), np.int32),
                notifications=0,
                payloads=Rendered(payload=b"{}"),
            )
            await self._ask(batch)
            del self._waiting[: len(asked)]
            for (sending, row), code in zip(asked, batch.outcomes.tolist(), strict=True):
                sending.settle(np.array([row]), _meaning(code))


def _meaning(code: int) -> int:
    """What a token is that got this answer to a message without fault."""
    if code == ACCEPTED.code:
        return MESSAGE
    if code == KEPT:
        return CONFIRMED
    return code if REASONS.outcome(code) is Outcome.UNREGISTERED else KEPT
