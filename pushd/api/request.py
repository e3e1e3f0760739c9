"""A request as an operation's handler sees it: decoded body and parameters, lines, paging, idempotency."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from pushd.api.operation import Listing, Page
from pushd.errors import Fault, InvalidRequestError
from pushd.web.cursor import Cursors
from pushd.web.incoming import Incoming
from pushd.web.ndjson import LineReader
from pushd.web.upload import Upload

B = TypeVar("B")
P = TypeVar("P")
T = TypeVar("T")

IDEMPOTENCY_KEY_CHARS_MAX = 255


class Request(Generic[B, P]):
    """What a handler is given. `Request[Body, Params]`; None where the operation has no body or no parameters."""

    __slots__ = ("_app_id", "_cursors", "_incoming", "_lines", "_page_max", "_upload", "body", "params", "raw")

    def __init__(
        self,
        *,
        body: B,
        params: P,
        raw: bytes,
        incoming: Incoming,
        app_id: int | None,
        cursors: Cursors,
        page_max: int,
        lines: LineReader | None,
        upload: Upload | None = None,
    ) -> None:
        self.body = body
        self.params = params
        self.raw = raw
        """The body's bytes as they came; empty for lines."""
        self._incoming = incoming
        self._app_id = app_id
        self._cursors = cursors
        self._page_max = page_max
        self._lines = lines
        self._upload = upload

    @property
    def id(self) -> str:
        """The name of this request, as its answer shows it."""
        return self._incoming.id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, case-insensitive."""
        return self._incoming.headers

    @property
    def address(self) -> str:
        """The client's address, behind trusted proxies too."""
        return self._incoming.client.address

    def lines(self) -> LineReader:
        """The NDJSON body; `async for batch in request.lines().batches(5_000)` gives (number of first line, lines)."""
        assert self._lines is not None, "the operation has no body_lines"
        return self._lines

    def upload(self) -> Upload:
        """The body as it comes."""
        assert self._upload is not None, "the operation has no media"
        return self._upload

    def idempotency(self) -> tuple[str, bytes] | None:
        """(Idempotency-Key, SHA-256 of the body), or None without the header."""
        key = self._incoming.headers.get("Idempotency-Key")
        if key is None:
            return None
        if not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
            fault = Fault("Idempotency-Key", f"must be 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
            raise InvalidRequestError(faults=[fault])
        return key, hashlib.sha256(self.raw).digest()

    @property
    def limit(self) -> int:
        """Items that a page may have: the caller's limit, within the operator's."""
        assert isinstance(self.params, Page)
        return min(self.params.limit, self._page_max)

    def after(self, first: int = 0) -> int:
        """The position that the caller's cursor carries; `first` without a cursor."""
        assert isinstance(self.params, Page)
        return first if self.params.cursor is None else self._cursors.open(self._scope, self.params.cursor)

    def listing(self, items: Sequence[T], positions: Sequence[int], *, more: bool = False) -> Listing[T]:
        """A page of items, a position for each; with a cursor when this one is full or there is `more`."""
        full = more or len(items) >= self.limit
        return Listing(items=list(items), next=self._cursors.seal(self._scope, positions[-1]) if full else None)

    def part(self, items: Sequence[T], end: int | None) -> Listing[T]:
        """A page of items, however many; with a cursor that goes on from `end` where there is one."""
        return Listing(items=list(items), next=None if end is None else self._cursors.seal(self._scope, end))

    @property
    def _scope(self) -> str:
        """What a cursor belongs to: this listing of this app."""
        return f"{self._app_id} {self._incoming.raw_path}"
