"""Fetches small files from addresses that tenants named: guarded at every hop, bounded in time and bytes (W-43)."""

from __future__ import annotations

import asyncio
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from pushd.config.pictures import PicturesConfig
from pushd.transport.guard import Guard, parse
from pushd.transport.guard_http import GuardedClient
from pushd.transport.resolve import Resolver, SystemResolver

_HEADERS = {"User-Agent": "pushd", "Accept": "image/png, image/jpeg", "Accept-Encoding": "identity"}
_MOVED = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """Why there is no file, in a word; nothing of a host, an address or a body (W-46)."""


class Fetcher(GuardedClient):
    """Fetches pictures of every app, over connections that are kept for a while. ConfigError for wrong hosts."""

    def __init__(self, config: PicturesConfig, resolver: Resolver | None = None) -> None:
        super().__init__(
            Guard.configured("pictures", config, config.hosts),
            resolver or SystemResolver(config.resolve_timeout_s),
            ca_file=config.ca_file,
            connections=config.fetches_max,
            connect_s=config.connect_timeout_s,
            total_s=config.fetch_timeout_s,
        )
        self._config = config

    async def get(self, url: str) -> bytes:
        """The file of a URL, asked for over HTTPS also where it is spelt without. FetchError."""
        try:
            async with asyncio.timeout(self._config.fetch_timeout_s):
                for _ in range(self._config.redirects_max + 1):
                    found = await self._ask(url)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except TimeoutError:
            raise FetchError("timeout") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(type(error).__name__) from None
        raise FetchError("redirects")

    async def _ask(self, url: str) -> bytes | str:
        """The file, or where it is instead."""
        plain = url.partition("#")[0]
        scheme, colon, rest = plain.partition(":")
        target = parse("https:" + rest if colon and scheme.lower() == "http" else plain)
        if self._session is None or not self.guard.allows(target):
            raise FetchError("forbidden")
        where = URL(target.url, encoded=True)
        async with self._session.get(where, headers=_HEADERS, allow_redirects=False) as response:
            if response.status in _MOVED and "Location" in response.headers:
                response.close()
                return urljoin(target.url, response.headers["Location"])
            if response.status != 200:
                raise FetchError(f"status_{response.status}")
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        most, total = self._config.bytes_max, 0
        chunks: list[bytes] = []
        while total <= most:
            chunk = await response.content.read(most + 1 - total)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            total += len(chunk)
        response.close()
        raise FetchError("too_large")
