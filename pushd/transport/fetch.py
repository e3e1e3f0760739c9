"""Fetches small files from addresses that tenants named: guarded at every hop, bounded in time and bytes (W-43)."""

from __future__ import annotations

import asyncio
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from pushd.config.pictures import PicturesConfig
from pushd.errors import ConfigError
from pushd.service import Service
from pushd.transport import guard_http
from pushd.transport.guard import Guard, parse
from pushd.transport.resolve import Resolver, SystemResolver
from pushd.transport.tls import client_context

_HEADERS = {"User-Agent": "pushd", "Accept": "image/png, image/jpeg", "Accept-Encoding": "identity"}
_MOVED = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """Why there is no file, in a word; nothing of a host, an address or a body (W-46)."""


def guard_of(config: PicturesConfig) -> Guard:
    """The guard of pictures as the operator configured it; ConfigError for a host or network that is none."""
    try:
        return Guard(config.hosts, any_host=config.any_host, networks=config.networks_allowed)
    except ValueError as error:
        raise ConfigError(f"pictures: {error}") from error


class Fetcher(Service):
    """Fetches pictures of every app, over connections that are kept for a while."""

    def __init__(self, config: PicturesConfig, resolver: Resolver | None = None) -> None:
        super().__init__()
        self._config = config
        self.guard = guard_of(config)
        self._resolver = resolver or SystemResolver(config.resolve_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Makes ready to connect."""
        context = client_context(self._config.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        self._session = guard_http.session(
            self.guard,
            self._resolver,
            context,
            connections=self._config.fetches_max,
            connect_s=self._config.connect_timeout_s,
            total_s=self._config.fetch_timeout_s,
        )

    async def stop(self) -> None:
        """Closes every connection."""
        await super().stop()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
