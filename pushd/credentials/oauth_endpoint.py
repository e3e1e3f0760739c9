"""A token endpoint: forms posted to a configured host over HTTPS, never to an address that a tenant gave (F-02)."""

from __future__ import annotations

import ssl
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp

from protocols.oauth2 import ANSWER_BYTES_MAX, FORM_TYPE

_CONNECTIONS_MAX = 16


class Reply(NamedTuple):
    """What the endpoint answered."""

    status: int
    body: bytes
    date: float | None
    """The endpoint's own clock, UNIX seconds; None where it did not say."""


class EndpointError(Exception):
    """No answer came: `kind` tells an operator where it ended."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class TokenEndpoint:
    """One vendor's token endpoint."""

    def __init__(self, host: str, port: int, path: str, timeout_s: float) -> None:
        self.url = f"https://{host}:{port}{path}"
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def start(self, context: ssl.SSLContext) -> None:
        """Makes ready to connect, under these trusted roots."""
        # The contexts of links offer h2 alone; a token endpoint is asked over HTTP/1.1.
        connector = aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS_MAX, ttl_dns_cache=0, use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def stop(self) -> None:
        """Closes its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, form: bytes) -> Reply:
        """The answer to a form, whatever its status; EndpointError when none came in time. Redirects are answers."""
        if self._session is None:
            raise EndpointError("stopped")
        try:
            async with self._session.post(
                self.url, data=form, headers={"Content-Type": FORM_TYPE}, allow_redirects=False
            ) as response:
                body = await response.content.read(ANSWER_BYTES_MAX + 1)
                while len(body) <= ANSWER_BYTES_MAX and (more := await response.content.read(ANSWER_BYTES_MAX)):
                    body += more
                return Reply(response.status, body, _date(response.headers.get("Date")))
        except TimeoutError:
            raise EndpointError("timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            # Messages of the library may quote the URL's peer; the class says enough.
            raise EndpointError(type(error).__name__) from None


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
