"""One request to a webhook: guarded, signed, without redirects, with a deadline, and only classified (W-43 to W-46)."""

from __future__ import annotations

import time
from typing import NamedTuple

import aiohttp
from yarl import URL

from pushd.config.feed import FeedConfig
from pushd.transport.guard import ForbiddenError, Guard, parse
from pushd.transport.guard_http import GuardedClient
from pushd.transport.resolve import Resolver, SystemResolver

GONE = 410
BUSY = frozenset({408, 425, 429, 502, 503, 504})
"""Answers that say something of the moment, and nothing of the event."""
_HEADERS = {"Content-Type": "application/json", "User-Agent": "pushd", "Accept-Encoding": "identity"}


class Attempt(NamedTuple):
    """What a request came to."""

    failure: str = ""
    """In a word, as its owner is told; nothing of a body, an address or a time (W-46). Empty: it arrived."""
    refused: bool = False
    """Whether it was the events that were not taken, as far as one can tell."""
    gone: bool = False
    """Whether the receiver wants nothing more, ever."""
    retry_after_s: float | None = None
    took_s: float = 0.0

    @property
    def arrived(self) -> bool:
        """Whether the receiver has the events."""
        return not self.failure


class Poster(GuardedClient):
    """Posts to webhooks of every app, over connections that are kept for a while."""

    def __init__(self, config: FeedConfig, guard: Guard, resolver: Resolver | None = None) -> None:
        super().__init__(
            guard,
            resolver or SystemResolver(config.resolve_timeout_s),
            ca_file=config.ca_file,
            connections=config.requests_max * 2,
            connect_s=config.connect_timeout_s,
            total_s=config.request_timeout_s,
        )
        self._config = config

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        """What became of a body that was posted to a tenant's URL."""
        begun = time.monotonic()
        attempt = await self._post(url, headers, body)
        return attempt._replace(took_s=time.monotonic() - begun)

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        try:
            target = parse(url)
        except ValueError:
            return Attempt("forbidden")
        if self._session is None or not self.guard.allows(target):
            return Attempt("forbidden")
        try:
            try:
                return await self._ask(self._session, target.url, headers, body)
            except aiohttp.ServerDisconnectedError:
                # Most likely it closed a connection that was idle, as we wrote to it.
                return await self._ask(self._session, target.url, headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return _failed(error)

    async def _ask(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        async with session.post(
            URL(url, encoded=True), data=body, headers=_HEADERS | headers, allow_redirects=False
        ) as response:
            await self._read(response)
            return self._judge(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        """Reads an answer to its end, or as far as one may go: then its connection is not used again."""
        left = self._config.answer_bytes_max
        while left > 0:
            chunk = await response.content.read(left)
            if not chunk:
                return
            left -= len(chunk)
        response.close()

    def _judge(self, response: aiohttp.ClientResponse) -> Attempt:
        status = response.status
        if 200 <= status < 300:
            return Attempt()
        if 300 <= status < 400:
            return Attempt("redirect", refused=True)
        busy = status in BUSY
        pause_s = _seconds(response.headers.get("Retry-After")) if busy else None
        if pause_s is not None:
            pause_s = min(pause_s, self._config.retry_after_max_s)
        return Attempt(f"status_{status}", refused=not busy, gone=status == GONE, retry_after_s=pause_s)


def _failed(error: Exception) -> Attempt:
    """What a request without an answer came to: before it was sent nothing is known of how its events would fare."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ForbiddenError):
        return Attempt("forbidden")
    if isinstance(error, aiohttp.ClientSSLError):
        return Attempt("tls")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Attempt("unreachable")
    return Attempt("timeout" if isinstance(error, TimeoutError) else "no_whole_answer", refused=True)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; None for a date, which needs clocks that agree, and for anything else."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
