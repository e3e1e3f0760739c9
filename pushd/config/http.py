"""The listener: addresses, TLS, trusted proxies, limits and deadlines of every HTTP surface."""

from __future__ import annotations

from msgspec import Struct


class TlsHost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate and the host names (SNI) that it answers for; no names: the default certificate."""

    certificate_file: str
    key_file: str
    names: list[str] = []


class HttpConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the HTTP server."""

    host: str = "127.0.0.1"
    port: int = 8085
    """Plain HTTP; 0: no plain listener."""
    tls_host: str = "127.0.0.1"
    tls_port: int = 0
    """HTTPS; 0: none. Needs at least one entry in `tls`."""
    tls: list[TlsHost] = []
    trusted_proxies: list[str] = []
    """Networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    body_bytes_max: int = 8 * 1024 * 1024
    bulk_body_bytes_max: int = 4 * 1024 * 1024 * 1024
    """Of NDJSON streams, which are never held in memory."""
    line_bytes_max: int = 256 * 1024
    """Of one line of an NDJSON stream."""
    header_bytes_max: int = 16 * 1024
    """Of all headers of a request together, the request line too; past it 431."""
    header_timeout_s: float = 10.0
    """From connecting, or from the first byte of a further request, to the end of the headers."""
    tls_handshake_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    """From the end of the headers to the end of a body that is not a stream."""
    stream_idle_timeout_s: float = 30.0
    """Between two reads of an NDJSON stream."""
    keepalive_timeout_s: float = 75.0
    linger_s: float = 2.0
    """How long the rest of a body is read and thrown away after an early answer, so that the client can read it."""
    write_timeout_s: float = 60.0
    """A client that takes nothing of its answer for this long is cut off (TCP_USER_TIMEOUT)."""
    stop_timeout_s: float = 5.0
    """How long a stop waits for requests that are being answered."""
    request_timeout_s: float = 60.0
    """For an answer, once the body is there."""
    connections_max: int = 16_384
    """Of all clients together; past it 503."""
    connections_per_address_max: int = 1024
    """Past it 429. Trusted proxies stand for many clients and are not counted; of IPv6 a /64 is one address."""
    auth_failures_per_minute_max: int = 10
    """Per client address; past it 429."""
    page_items_max: int = 1000
    """Items of one page of a listing."""
