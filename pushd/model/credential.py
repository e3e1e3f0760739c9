"""Gateway credentials of an app, per platform and environment; secrets live encrypted in the store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from pushd.model.device import Environment, GatewayName


class CredentialState(StrEnum):
    """Whether a credential is used."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Refused by the gateway: its messages wait until it is replaced, resumed, or they expire."""


class ApnsToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="apns_token"):
    """An APNs provider token key (p8): Apple's 10-character ids and the PKCS#8 PEM text."""

    team_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")]
    key_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")]
    private_key: Annotated[str, Meta(max_length=4096)]
    topics: list[str] = []
    """Bundle ids that this key serves; empty: every bundle of the app (a team-scoped key)."""

    def __repr__(self) -> str:
        return f"ApnsToken(team_id={self.team_id!r}, key_id={self.key_id!r}, topics={self.topics!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Tracebacks show locals by these two: the key must not be among them (G-09).
        return [("team_id", self.team_id), ("key_id", self.key_id), ("topics", self.topics)]


Secret = ApnsToken
"""What a credential is made of: one struct per way of authenticating, a tagged union as gateways are added."""


class Credential(Struct, frozen=True, kw_only=True):
    """A credential as the API shows it: never its secret."""

    id: int
    app_id: int
    gateway: GatewayName
    environment: Environment
    name: str
    summary: dict[str, str]
    """What may be shown of it, such as team id and key id."""
    state: CredentialState
    paused_reason: str | None
    created_at: float
    updated_at: float
