"""Header blocks of responses: decoded by the `hpack` package under limits, judged by RFC 9113 section 8.

Theory of operation. Until the peer acknowledges our SETTINGS its blocks may use a table of 4,096 octets. If we asked
for size 0, the next block after the acknowledgement must open with a size update to 0 (RFC 9113 section 4.3.1); a table
that the peer emptied of its own accord before is as good. From then on blocks are *stateless*: they depend on nothing
and change nothing, so that one may even be left unread. Where the table stays in use, equal octets still mean equal
fields as long as it is not changed: blocks that were decoded and left it alone are remembered until one changes it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.hpack import decode_integer

from protocols.errors import RemoteProtocolError
from protocols.http2.frames import ErrorCode
from protocols.http2.plans import CONNECTION_SPECIFIC, NAME, is_bad_value
from protocols.http2.settings import ConnectionSettings

SIZE_UPDATES_MAX = 2
"""At the opening of a block: the smallest size and the last one (RFC 7541 section 4.2)."""
MEMO_BLOCKS_MAX = 64
MEMO_BLOCK_BYTES_MAX = 512
"""Bounds of what is remembered of blocks."""
STATUS_200 = 0x88
"""The one octet of `:status 200` (RFC 7541 appendix A, index 8)."""
STATUS = re.compile(rb"[1-5][0-9]{2}")
"""RFC 9110 section 15; others are invalid."""


class Head(NamedTuple):
    """A decoded block: of a response, or of its trailers."""

    fields: list[tuple[bytes, bytes]]
    """Without `:status`."""
    status: int
    """0: no `:status`, as trailers are."""
    content_length: int | None
    encoded: bool
    """Whether it has a content-encoding; we never accept one (T-36)."""
    malformed: str
    """Why it may not be used, empty if it may (RFC 9113 section 8.1.1)."""
    size: int
    """Octets of the decoded list."""


class Mark(NamedTuple):
    """By what it shows that the table was changed: new entries stand first, old ones fall out at the end."""

    bytes_max: int
    entries: int
    newest: object


class BlockDecoder:
    """Decodes the header blocks of one connection in order."""

    __slots__ = ("_decoder", "_memo", "_plain", "_zero", "stateless")

    def __init__(self, settings: ConnectionSettings) -> None:
        self._decoder = Decoder(settings.header_list_bytes_max)
        self._zero = settings.header_table_size_zero
        self._memo: dict[bytes, Head] = {}
        self._plain: set[bytes] = set()
        """Those of the remembered blocks that say 200, and nothing else that matters."""
        self.stateless = False
        """Whether blocks no longer depend on each other."""

    def acknowledged(self) -> None:
        """The peer acknowledged our SETTINGS: they bind it from here on."""
        if self._zero:
            self._decoder.max_allowed_table_size = 0
            self._forget()
            self._see_state()

    def says_200(self, block: bytes) -> bool:
        """Whether the block is known to say 200 and may be left unread: nothing of it changes what comes after."""
        return block[:1] == b"\x88" if self.stateless else block in self._plain

    def decode(self, block: bytes) -> Head:
        """The fields of a block; RemoteProtocolError if it does not decode or passes a limit (T-06, T-31)."""
        head = self._memo.get(block)
        if head is not None:
            return head
        self._check_size_updates(block)
        before = self._mark()
        try:
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise RemoteProtocolError("header list too large", ErrorCode.ENHANCE_YOUR_CALM) from None
        except HPACKError as error:
            # Its text may quote octets of the block.
            message = f"header block: {type(error).__name__}"
            raise RemoteProtocolError(message, ErrorCode.COMPRESSION_ERROR) from None
        head = judge(fields)
        if _moved(before, self._mark()):
            self._forget()
        elif len(block) <= MEMO_BLOCK_BYTES_MAX:
            self._remember(block, head)
        if not self.stateless:
            self._see_state()
        return head

    def _remember(self, block: bytes, head: Head) -> None:
        if len(self._memo) >= MEMO_BLOCKS_MAX:
            self._forget()
        self._memo[block] = head
        if head.status == 200 and not head.content_length and not head.malformed:
            self._plain.add(block)

    def _forget(self) -> None:
        self._memo.clear()
        self._plain.clear()

    def _mark(self) -> Mark:
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return Mark(table.maxsize, len(entries), entries[0] if entries else None)

    def _see_state(self) -> None:
        self.stateless = self._decoder.max_allowed_table_size == 0 == self._decoder.header_table_size

    def _check_size_updates(self, block: bytes) -> None:
        """RemoteProtocolError for more size updates than a block may open with; `hpack` checks their values."""
        at = updates = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            updates += 1
            if updates > SIZE_UPDATES_MAX:
                raise RemoteProtocolError("too many table size updates", ErrorCode.COMPRESSION_ERROR)
            try:
                at += decode_integer(block[at:], 5)[1]
            except HPACKError:
                raise RemoteProtocolError("truncated table size update", ErrorCode.COMPRESSION_ERROR) from None


def _moved(before: Mark, after: Mark) -> bool:
    return before.newest is not after.newest or before != after


def judge(fields: list[tuple[bytes, bytes]]) -> Head:
    """What a decoded list says as a response or as trailers (RFC 9113 sections 8.1 to 8.3)."""
    size = sum(len(name) + len(value) + 32 for name, value in fields)
    status = 0
    if fields and fields[0][0] == b":status":
        if not STATUS.fullmatch(fields[0][1]):
            return Head([], 0, None, False, ":status is no status", size)
        status = int(fields[0][1])
        fields = fields[1:]
    length: int | None = None
    encoded = False
    for name, value in fields:
        if name[:1] == b":":
            return Head([], status, None, False, "a pseudo-header out of place", size)
        if not NAME.fullmatch(name) or is_bad_value(value):
            return Head([], status, None, False, "a field with forbidden octets", size)
        if name in CONNECTION_SPECIFIC:
            return Head([], status, None, False, "a connection-specific field", size)
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or (length is not None and int(value) != length):
                return Head([], status, None, False, "content-length is no length", size)
            length = int(value)
        elif name == b"content-encoding":
            encoded = encoded or value.lower() != b"identity"
    return Head(fields, status, length, encoded, "", size)
