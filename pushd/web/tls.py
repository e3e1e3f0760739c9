"""Certificates by host name (SNI), reloaded while connections go on."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from pushd.config.http import TlsHost
from pushd.errors import ConfigError


class Certificates:
    """One TLS context per certificate. `context` is the listener's: every handshake moves to the context of its name.

    `reload` reads all files anew and swaps the whole table at once, or leaves it as it was; handshakes after it use the
    new certificates, open connections keep theirs.
    """

    def __init__(self, hosts: Sequence[TlsHost]) -> None:
        if not hosts:
            raise ConfigError("http.tls: a TLS listener needs at least one certificate")
        self._hosts = tuple(hosts)
        self.reload()
        self.context = _server_context()
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Reads the certificates again; ConfigError, and no change, when one cannot be used."""
        by_name: dict[str, ssl.SSLContext] = {}
        default: ssl.SSLContext | None = None
        for host in self._hosts:
            context = _load(host)
            by_name |= {name.lower().rstrip("."): context for name in host.names}
            if default is None or not host.names:
                default = context
        assert default is not None
        self._by_name, self._default = by_name, default

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._find(name)

    def _find(self, name: str | None) -> ssl.SSLContext:
        """The context for a name: itself, a wildcard one label up (RFC 6125 section 6.4.3), or the default."""
        if name is None:
            return self._default
        name = name.lower().rstrip(".")
        found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        return found or self._default


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(host: TlsHost) -> ssl.SSLContext:
    context = _server_context()
    try:  # the password callback keeps OpenSSL from asking a terminal
        context.load_cert_chain(host.certificate_file, host.key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"http.tls: {host.certificate_file} with {host.key_file}: {error}") from None
    return context
