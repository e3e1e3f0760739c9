"""E-mail: the relay that carries it, which is the operator's, and how much at a time."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class EmailConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the e-mail gateway. No tenant ever names a host."""

    relay_host: str = ""
    """The SMTP relay; empty: this daemon sends no mail."""
    relay_port: Annotated[int, Meta(ge=0, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`none` is for a relay on this machine."""
    ca_file: str = ""
    """A PEM file trusted instead of the system's store."""
    username: str = ""
    password_file: str = ""
    """A file with the relay's password, as systemd's LoadCredential gives it."""
    local_hostname: str = ""
    """What EHLO says; empty: this machine's name."""
    bulk_connections: Annotated[int, Meta(ge=1)] = 4
    transactional_connections: Annotated[int, Meta(ge=1)] = 2
    """Connections of one credential in each lane."""
    connections_max: Annotated[int, Meta(ge=1)] = 40
    """Connections to the relay altogether."""
    rows_ahead: Annotated[int, Meta(ge=1)] = 100
    """Mails that may wait for each connection."""
    slot_timeout_s: float = 30.0
    """For one of those connections; then what waits goes home unprocessed."""
    mails_per_connection: Annotated[int, Meta(ge=1)] = 500
    """After so many a connection is replaced; relays limit it."""
    idle_close_s: float = 10.0
    connect_timeout_s: float = 10.0
    """TCP, TLS and greeting."""
    reply_timeout_s: float = 30.0
    """For each reply of the relay, the last one too."""
    pools_max: int = 10_000
    """Pools remembered (credentials times lanes); past it idle ones are forgotten first."""
