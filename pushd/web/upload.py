"""An uploaded file: the body itself, or the one file of a form (RFC 7578), read piece by piece within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from pushd.errors import Fault, InvalidRequestError, PayloadTooLargeError, RequestTimeoutError

if TYPE_CHECKING:
    from aiohttp import StreamReader

T = TypeVar("T")

FORM = "multipart/form-data"
CHUNK_BYTES = 65_536
UNSAID = frozenset(("", "application/octet-stream", "application/vnd.ms-excel"))
"""Types of files whose sender does not know them: curl's of a CSV, and Windows'."""
LINES_MAX = 500
"""Of a form, outside its file: headers, and what may stand before them."""


class Upload:
    """The bytes of a file, once: `whole`, or `chunks`."""

    __slots__ = ("_bytes_max", "_content", "_headers", "_idle_s")

    def __init__(self, content: StreamReader, headers: Mapping[str, str], *, bytes_max: int, idle_s: float) -> None:
        self._content = content
        self._headers = headers
        self._bytes_max = bytes_max
        self._idle_s = idle_s

    async def whole(self, bytes_max: int) -> bytes:
        """The file; PayloadTooLargeError, RequestTimeoutError, InvalidRequestError."""
        found, total = [], 0
        async for chunk in self.chunks():
            total += len(chunk)
            if total > bytes_max:
                raise PayloadTooLargeError(f"The body is longer than {bytes_max} bytes")
            found.append(chunk)
        return b"".join(found)

    async def chunks(self, *, suffix: str = "", types: frozenset[str] = frozenset()) -> AsyncIterator[bytes]:
        """The file as it comes. In a form its name has to end with `suffix`, and its type to be one of `types`.

        PayloadTooLargeError, RequestTimeoutError, InvalidRequestError that points at what is wrong with a form.
        """
        if self._headers.get("Content-Type", "").lower().startswith("multipart/"):
            async for chunk in self._of_form(suffix, types):
                yield chunk
            return
        while chunk := await self._bounded(self._content.readany()):
            yield chunk

    async def _of_form(self, suffix: str, types: frozenset[str]) -> AsyncIterator[bytes]:
        reader = self._reader()
        files = 0
        while (part := await self._bounded(reader.next())) is not None:
            if not isinstance(part, BodyPartReader) or part.filename is None:
                raise InvalidRequestError(faults=[Fault("/file", "the form holds something beside one file")])
            files += 1
            if files > 1:
                raise InvalidRequestError(faults=[Fault("/file", "there is more than one")])
            _check(part.filename, part.headers, suffix, types)
            while chunk := await self._bounded(part.read_chunk(CHUNK_BYTES)):
                yield bytes(chunk)
        if not files:
            raise InvalidRequestError(faults=[Fault("/file", "is not there")])

    def _reader(self) -> MultipartReader:
        try:
            return MultipartReader(self._headers, cast("StreamReader", _Lines(self._content)))
        except ValueError:
            raise InvalidRequestError(faults=[Fault("Content-Type", "says no boundary that a form may have")]) from None

    async def _bounded(self, reading: Awaitable[T]) -> T:
        """What a read gives, in time, within the bytes that a body may have."""
        try:
            async with asyncio.timeout(self._idle_s):
                found = await reading
        except TimeoutError:
            raise RequestTimeoutError(f"The body was silent for {self._idle_s:g} s") from None
        except RequestPayloadError as error:
            raise InvalidRequestError(f"The body does not arrive whole: {error}") from None
        except (ValueError, AssertionError, RuntimeError, HttpProcessingError):
            raise InvalidRequestError(faults=[Fault("/file", "the form is not one of RFC 7578")]) from None
        if self._content.total_bytes > self._bytes_max:
            raise PayloadTooLargeError(f"The body is longer than {self._bytes_max} bytes")
        return found


class _Lines:
    """What arrives of a form, of which no more lines are read one by one than an honest one has."""

    __slots__ = ("_content", "_left")

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._left = LINES_MAX

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def readline(self, **limits: int) -> bytes:
        """The next line; ValueError past the limit."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("there are too many lines outside the file")
        return await self._content.readline(**limits)


def _check(name: str, headers: Mapping[str, str], suffix: str, types: frozenset[str]) -> None:
    """Returns when a file of a form has the name and type that are asked for, where it says them."""
    faults = []
    if suffix and not name.lower().endswith(suffix):
        faults.append(Fault("/file", f"its name does not end with {suffix}"))
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if types and kind not in types | UNSAID:
        faults.append(Fault("/file", f"its type is {kind}, and not {' or '.join(sorted(types))}"))
    if faults:
        raise InvalidRequestError("The file is not of the kind that is taken here", faults=faults)
