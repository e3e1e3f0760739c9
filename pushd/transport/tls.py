"""TLS as gateways need it: 1.2 or later, verified host, HTTP/2 by ALPN or nothing."""

from __future__ import annotations

import ssl

ALPN_H2 = "h2"

CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, what Appendix A of RFC 9113 does not forbid; TLS 1.3 has no other kind."""


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """A context that verifies chain and host name, by the system's roots or by `ca_file` alone (A-02, T-15)."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS12)
    context.set_alpn_protocols([ALPN_H2])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context
