"""A client of the native API, for the commands that act through a running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from pushd.errors import ConfigError, Fault, PushdError, UnavailableError

PREFIX = "/pushd/v1"
TIMEOUT_S = 60.0
RECONNECT_S = 1.0
"""Before a stream of events that ended is taken up again."""


class RefusedError(PushdError):
    """What the daemon answered with, when it was no success."""

    code, title = "refused", "The daemon refused the request"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        faults = [Fault(each.get("pointer", ""), each.get("detail", "")) for each in problem.get("errors", [])]
        detail = problem.get("detail") or problem.get("title") or "no explanation"
        super().__init__(f"{status}: {detail}", faults=faults)
        self.answered = status


class Client:
    """Speaks to one daemon with one key, over kept connections."""

    def __init__(self, url: str, key: str, app_id: int | None = None) -> None:
        self._base = url.rstrip("/") + PREFIX
        self._headers = {"Authorization": f"Bearer {key}"}
        if app_id is not None:
            self._headers["Pushd-App"] = str(app_id)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=None, connect=10)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, query: Mapping[str, Any] | None = None) -> Any:
        """The decoded answer; RefusedError with the daemon's own words, UnavailableError when there is no daemon."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        data = None if body is None else orjson.dumps(body)
        kind = {"Content-Type": "application/json"} if data is not None else {}
        return await self._request(method, path, data, given, kind)

    async def put(self, path: str, data: bytes, headers: Mapping[str, str]) -> Any:
        """The decoded answer to octets; as `call`."""
        return await self._request("PUT", path, data, {}, headers)

    async def _request(
        self, method: str, path: str, data: bytes | None, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Any:
        assert self._session is not None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async with self._session.request(
                    method, self._base + path, data=data, params=query, headers=headers
                ) as got:
                    return _answer(got.status, await got.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"no answer from {self._base}: {error or type(error).__name__}") from None

    async def stream(self, path: str, lines: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Sends NDJSON and yields the lines of the answer as they come."""
        assert self._session is not None
        kind = {"Content-Type": "application/x-ndjson"}
        try:
            async with self._session.post(self._base + path, data=lines, headers=kind) as got:
                if got.status >= 400:
                    _answer(got.status, await got.read())
                async for line in got.content:
                    if line.strip():
                        yield orjson.loads(line)
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"no answer from {self._base}: {error or type(error).__name__}") from None

    async def events(self, path: str, after: str | None, types: Sequence[str]) -> AsyncIterator[Any]:
        """Server-sent events behind one of them, or from now on, without end: a stream that ends is taken up again."""
        assert self._session is not None
        while True:
            headers = {} if after is None else {"Last-Event-ID": after}
            params = [("type", each) for each in types]
            try:
                async with self._session.get(self._base + path, params=params, headers=headers) as got:
                    if got.status >= 400:
                        _answer(got.status, await got.read())
                    held = b""
                    async for chunk in got.content.iter_any():
                        *frames, held = (held + chunk).split(b"\n\n")
                        for data in (line for frame in frames for line in frame.split(b"\n")):
                            if data.startswith(b"data: "):
                                event = orjson.loads(data[6:])
                                after = event["id"]
                                yield event
            except (aiohttp.ClientError, OSError) as error:
                if after is None:
                    raise UnavailableError(f"no answer from {self._base}: {error or type(error).__name__}") from None
            await asyncio.sleep(RECONNECT_S)

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """The octets of an answer as they come; UnavailableError where it is cut off."""
        assert self._session is not None
        try:
            async with self._session.get(self._base + path) as got:
                if got.status >= 400:
                    _answer(got.status, await got.read())
                async for piece in got.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"no answer from {self._base}: {error or type(error).__name__}") from None

    async def lines(self, path: str, body: Any) -> AsyncIterator[Any]:
        """Posts JSON and yields the lines of the answer as they come."""
        assert self._session is not None
        try:
            async with self._session.post(self._base + path, json=body) as got:
                if got.status >= 400:
                    _answer(got.status, await got.read())
                async for line in got.content:
                    yield orjson.loads(line)
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"no answer from {self._base}: {error or type(error).__name__}") from None


def ask(client: Client, method: str, path: str, body: Any, query: Mapping[str, Any]) -> Any:
    """One call from a command that is not asynchronous itself."""

    async def once() -> Any:
        async with client:
            return await client.call(method, path, body, query=query)

    return asyncio.run(once())


def read_key(key_file: Path | None) -> str:
    """The API key in a file; keys are never taken from arguments or the environment."""
    path = key_file or Path.home() / ".config/pushd/key"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file that holds an API key with --key-file") from None


def _answer(status: int, raw: bytes) -> Any:
    try:
        decoded = orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        decoded = {"detail": "the answer is not JSON: is this pushd?"}
        status = max(status, 502)
    if status >= 400:
        raise RefusedError(status, decoded if isinstance(decoded, dict) else {})
    return decoded
