"""A request as every HTTP surface gets it: id, client behind proxies, path values, and its body within limits."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from pushd.errors import InvalidRequestError, PayloadTooLargeError, RequestTimeoutError, UnsupportedMediaTypeError
from pushd.web.ndjson import LineReader
from pushd.web.proxies import Client
from pushd.web.upload import Upload

if TYPE_CHECKING:
    from pushd.web.brief import Head
    from pushd.web.connection import Connection
    from pushd.web.surface import Surface

_PROCESS = secrets.token_hex(4)
_NUMBERS = itertools.count(1)


class Incoming(web.BaseRequest):
    """One request. `path_values` are the raw (still percent-encoded) values of the route's parameters."""

    path_values: tuple[str, ...] = ()
    route: str = ""
    """The template that matched, for logs; never the path itself, which may name people."""
    caller: str = ""
    """The hint of the key that asked, for logs."""
    surface: Surface | None = None
    """Whose it is, once that is known."""
    head: Head | None = None
    """Of a brief request: its head, which came before."""
    _id: str | None = None
    _client: Client | None = None

    @property
    def id(self) -> str:
        """A name for this request that no other has; in its answer, its log line, and a 500's problem details."""
        if self._id is None:
            self._id = f"{_PROCESS}{next(_NUMBERS):08x}"
        return self._id

    @property
    def raw_path(self) -> str:
        """The path as it came, percent-encoded, without the query."""
        path = self._message.path
        return path.partition("?")[0] if path.startswith("/") else self.rel_url.raw_path

    @property
    def raw_query(self) -> str:
        """The query as it came, without its question mark."""
        return self._message.path.partition("?")[2]

    @property
    def client(self) -> Client:
        """Who sent it, as trusted proxies tell."""
        if self._client is None:
            self._client = cast("Connection", self._protocol).client(self.headers)
        return self._client

    async def body(self, *, types: frozenset[str], bytes_max: int, timeout_s: float) -> bytes:
        """The whole body, inflated; UnsupportedMediaTypeError, PayloadTooLargeError or RequestTimeoutError."""
        self._check_type(types)
        if (self.content_length or 0) > bytes_max:
            raise PayloadTooLargeError(f"The body is longer than {bytes_max} bytes")
        if self.content.is_eof():  # it came with the headers: no waiting, no timer
            raw = self.content.read_nowait()
            if len(raw) > bytes_max:
                raise PayloadTooLargeError(f"The body is longer than {bytes_max} bytes")
            return raw
        try:
            async with asyncio.timeout(timeout_s):
                return await self._gather(bytes_max)
        except TimeoutError:
            raise RequestTimeoutError(f"The body took longer than {timeout_s:g} s") from None

    async def lines(self, *, types: frozenset[str], bytes_max: int, line_bytes_max: int, idle_s: float) -> LineReader:
        """A reader of the body's lines."""
        self._check_type(types)
        await self._continue()
        return LineReader(_Inflated(self), bytes_max=bytes_max, line_bytes_max=line_bytes_max, idle_s=idle_s)

    async def upload(self, *, types: frozenset[str], bytes_max: int, idle_s: float) -> Upload:
        """A reader of the body as a file, or as the one file of a form."""
        self._check_type(types)
        await self._continue()
        return Upload(self.content, self.headers, bytes_max=bytes_max, idle_s=idle_s)

    async def chunk(self) -> bytes:
        """What has arrived of the body, empty at its end."""
        try:
            return await self.content.readany()
        except RequestPayloadError as error:
            raise InvalidRequestError(f"The body does not arrive whole: {error}") from None

    async def _gather(self, bytes_max: int) -> bytes:
        await self._continue()
        chunks, total = [], 0
        while chunk := await self.chunk():
            total += len(chunk)
            if total > bytes_max:
                raise PayloadTooLargeError(f"The body is longer than {bytes_max} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def _continue(self) -> None:
        """Tells a client that asked first (RFC 9110 section 10.1.1) to go on."""
        if self.headers.get("Expect", "").lower() == "100-continue" and self.version >= HttpVersion11:
            transport = self.transport
            if transport is not None and not self.content.is_eof():
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_type(self, types: frozenset[str]) -> None:
        text = self.headers.get("Content-Type")
        if text is None or text in types:
            return
        type_, _, parameters = text.lower().partition(";")
        charset = parameters.strip().partition("charset=")[2].strip('" ')
        if type_.strip() not in types or charset not in {"", "utf-8", "utf8"}:
            raise UnsupportedMediaTypeError(f"The body must be {' or '.join(sorted(types))} in UTF-8")


class _Inflated:
    """An incoming body as line readers want it."""

    __slots__ = ("_incoming",)

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    async def readany(self) -> bytes:
        return await self._incoming.chunk()
