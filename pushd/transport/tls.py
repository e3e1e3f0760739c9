"""TLS as gateways need it: 1.2 or later, verified host, HTTP/2 by ALPN or nothing."""

from __future__ import annotations

import os
import ssl
from typing import Protocol

ALPN_H2 = "h2"

CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, what Appendix A of RFC 9113 does not forbid; TLS 1.3 has no other kind."""


CERTIFICATE_ALERTS = frozenset(
    {
        "CERTIFICATE_REQUIRED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_UNKNOWN",
        "UNSUPPORTED_CERTIFICATE",
        "UNKNOWN_CA",
        "ACCESS_DENIED",
    }
)
"""Alerts by which a peer says that it does not take our certificate (RFC 8446 section 6.2)."""


class Identity(Protocol):
    """A certificate with its key, for the connections of whoever proves itself by TLS."""

    @property
    def certificates(self) -> bytes:
        """PEM: the certificate itself, then its chain."""

    @property
    def private_key(self) -> bytes:
        """PEM, not encrypted."""


def client_context(ca_file: str = "", identity: Identity | None = None) -> ssl.SSLContext:
    """A context that verifies chain and host name, by the system's roots or by `ca_file` alone (A-02, T-15).

    With an identity it shows that to the peer (A-20); ssl.SSLError where OpenSSL does not take it.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS12)
    context.set_alpn_protocols([ALPN_H2])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if identity is not None:
        show_identity(context, identity)
    return context


def show_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Loads an identity into a context; the `ssl` module reads files only, so it gets one that is on no disk (A-23)."""
    descriptor = os.memfd_create("identity")
    with os.fdopen(descriptor, "wb") as file:
        file.write(identity.private_key + identity.certificates)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def refuses_certificate(error: BaseException | None) -> bool:
    """Whether an error of TLS is the peer's word that it does not take our certificate.

    Under TLS 1.3 it comes after the handshake, with the first read (A-24).
    """
    if not isinstance(error, ssl.SSLError):
        return False
    _, alert, name = (error.reason or "").partition("_ALERT_")
    return bool(alert) and name in CERTIFICATE_ALERTS
