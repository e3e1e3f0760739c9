"""OAuth access tokens: one fetch for all who need one, ahead of expiry, off the fan-out path.

Theory (F-03 to F-05). A `Login` holds the access token of one account. Whoever needs it reads it without waiting; the
first reader past the time of refreshing starts a fetch in the background, and the old token serves until it ends. Only
where there is no token at all does anybody wait, and then all wait for the same fetch.

Rules kept here:
- A token's age is monotonic; a wall clock that moved only makes it be refreshed earlier. An assertion carries wall
  time: where the endpoint refuses it and has another time itself, it is asked once more with that (X-20).
- An account that the endpoint refuses is told to the operator once, and asked again only after a pause.
- A token that the gateway refuses is replaced once; if the next one is refused too, the account is at fault (F-04).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from protocols import oauth2
from protocols.oauth2 import TokenError
from pushd.clock import Clock
from pushd.credentials.oauth_endpoint import EndpointError, Reply, TokenEndpoint
from pushd.service import Contained, Service

log = structlog.get_logger(__name__)

SKEW_MIN_S = 60.0
"""Clocks closer than this are not why an assertion is refused."""
LOGINS_MAX = 10_000
"""Accounts remembered; past it those without a live token are forgotten first."""


class Grant(Protocol):
    """What an account shows to be given a token."""

    @property
    def account(self) -> str:
        """Whose it is, for the log: never a secret."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells this account from every other; secrets as digests."""

    def form(self, now: float) -> bytes:
        """The form to post at a time in UNIX seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTimes:
    """When tokens are replaced, and how long is waited."""

    ahead_s: float
    jitter_s: float
    backoff_base_s: float
    backoff_cap_s: float


@dataclass(slots=True, eq=False)
class Held:
    """An access token as links use it; told apart by identity."""

    token: str = field(repr=False)
    lifetime_s: float
    got_at: float
    """Monotonic seconds."""
    got_at_wall: float
    refresh_at: float
    """Seconds of age."""
    after_refusal: bool = False
    """Whether it took the place of one that the gateway refused, and was not taken by the gateway since."""
    refused: bool = False

    @property
    def authorization(self) -> bytes:
        """The value of the authorization header (RFC 6750 section 2.1)."""
        return b"Bearer " + self.token.encode()


Spawn = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]


class Login:
    """The access tokens of one account."""

    def __init__(self, grant: Grant, endpoint: TokenEndpoint, times: RefreshTimes, clock: Clock, spawn: Spawn) -> None:
        self._grant = grant
        self._endpoint = endpoint
        self._times = times
        self._clock = clock
        self._spawn = spawn
        self._held: Held | None = None
        self._fetching: asyncio.Task[Any] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._rejected = False
        self.refused = ""
        """Why the endpoint gives this account no token; empty as long as it has not said so."""

    def current(self) -> Held | None:
        """The token to use now; None while there is none. Sees to it that there will be another in time."""
        held, now = self._held, self._clock.monotonic()
        if held is None:
            self._fetch(now)
            return None
        age_s = max(now - held.got_at, self._clock.now() - held.got_at_wall)
        if age_s >= held.refresh_at:
            self._fetch(now)
        return held if now - held.got_at < held.lifetime_s else None

    async def ready(self, wait_s: float) -> Held | None:
        """The token, once there is one; None where none came within so many seconds, or the account is refused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while (held := self.current()) is None and not self.refused:
            left_s = deadline - loop.time()
            if left_s <= 0:
                return None
            if self._fetching is not None:
                await asyncio.wait({self._fetching}, timeout=left_s)
            else:
                await asyncio.sleep(min(left_s, max(0.001, self._retry_at - self._clock.monotonic())))
        return held

    def refuse(self, held: Held) -> bool:
        """Whether another token is on its way in place of one that the gateway refused (F-04).

        False: this one was the second chance already, so the account itself is refused.
        """
        if held is not self._held:
            return True
        if held.after_refusal:
            if not held.refused:
                log.error("access_token_refused_again", account=self._grant.account)
            held.refused = True
            return False
        log.warning("access_token_refused", account=self._grant.account)
        self._held, self._rejected = None, True
        self._fetch(self._clock.monotonic())
        return True

    def accepted(self, held: Held) -> None:
        """The gateway took this token: a later refusal of it is a first one again."""
        held.after_refusal = held.refused = False

    def forget_refusal(self) -> None:
        """Asks the endpoint again when next a token is needed, though it or the gateway has refused the account."""
        self.refused, self._retry_at = "", 0.0
        if self._held is not None and self._held.refused:
            self._held = None

    @property
    def live(self) -> bool:
        """Whether there is a token that is good, without asking for one."""
        held = self._held
        return held is not None and self._clock.monotonic() - held.got_at < held.lifetime_s

    def _fetch(self, now: float) -> None:
        """Starts a fetch unless one runs, or the last one failed just now."""
        if self._fetching is None and now >= self._retry_at:
            self.refused = ""
            self._fetching = self._spawn(self._renew(), "access-token")
            self._fetching.add_done_callback(self._fetched)

    def _fetched(self, _task: asyncio.Task[Any]) -> None:
        self._fetching = None

    async def _renew(self) -> None:
        with Contained("access token", lambda _: self._fail("internal error", refused=False)):
            await self._try()

    async def _try(self) -> None:
        try:
            token = await self._ask()
        except TokenError as error:
            self._fail(error.error, refused=error.refused)
        except EndpointError as error:
            self._fail(error.kind, refused=False)
        else:
            self._take(token)

    async def _ask(self) -> oauth2.AccessToken:
        now = self._clock.now()
        reply = await self._endpoint.post(self._grant.form(now))
        try:
            return oauth2.parse_answer(reply.status, reply.body)
        except TokenError as error:
            skew_s = _skew_s(reply, now)
            if not error.refused or abs(skew_s) < SKEW_MIN_S:
                raise
            log.error("wall_clock_differs", account=self._grant.account, seconds=round(skew_s))  # noqa: TRY400  one line
            reply = await self._endpoint.post(self._grant.form(now + skew_s))
            return oauth2.parse_answer(reply.status, reply.body)

    def _take(self, token: oauth2.AccessToken) -> None:
        times = self._times
        early_s = times.ahead_s + random.uniform(0, times.jitter_s)  # noqa: S311  spreads fetches, guards nothing
        self._held = Held(
            token.value,
            token.lifetime_s,
            self._clock.monotonic(),
            self._clock.now(),
            max(token.lifetime_s / 2, token.lifetime_s - early_s),
            after_refusal=self._rejected,
        )
        self._failures, self._retry_at, self._rejected, self.refused = 0, 0.0, False, ""
        log.info("access_token_fetched", account=self._grant.account, lifetime_s=round(token.lifetime_s))

    def _fail(self, why: str, *, refused: bool) -> None:
        times = self._times
        self._failures += 1
        ceiling_s = min(times.backoff_cap_s, times.backoff_base_s * 2 ** min(self._failures - 1, 30))
        pause_s = times.backoff_cap_s if refused else random.uniform(0, ceiling_s)  # noqa: S311  jitter
        self._retry_at = self._clock.monotonic() + pause_s
        if refused:
            self.refused = why
            log.error("access_token_denied", account=self._grant.account, reason=why, old_token_serves=self.live)
        else:
            log.warning("access_token_not_fetched", account=self._grant.account, reason=why, failures=self._failures)


class Logins(Service):
    """One login per account, however many credentials name it."""

    def __init__(self, endpoint: TokenEndpoint, times: RefreshTimes, clock: Clock) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._times = times
        self._clock = clock
        self._logins: dict[tuple[str, ...], Login] = {}

    def of(self, grant: Grant) -> Login:
        """The login of a grant's account."""
        login = self._logins.get(grant.identity)
        if login is None:
            if len(self._logins) >= LOGINS_MAX:
                self._logins = {known: each for known, each in self._logins.items() if each.live}
            login = Login(grant, self._endpoint, self._times, self._clock, self.spawn)
            self._logins[grant.identity] = login
        return login

    async def stop(self) -> None:
        """Ends fetches and closes the endpoint's connections."""
        await self.cancel_tasks()
        await self._endpoint.stop()


def digest(secret: str) -> str:
    """What stands for a secret where only sameness counts."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _skew_s(reply: Reply, now: float) -> float:
    return 0.0 if reply.date is None else reply.date - now
