"""Keys of the dialects: what the customers of a hosted service already have in their code, bound to an app."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pushd.model.app import AppId, Role


class DialectName(StrEnum):
    """A hosted service whose API pushd speaks."""

    CONNECTYCUBE = "connectycube"
    KUMULOS = "kumulos"
    BACKENDLESS = "backendless"
    GRAVITEC = "gravitec"
    APPENATE = "appenate"


Identity = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-9;-~]+$")]
"""The public half: visible ASCII without a colon, which parts the two in Basic authentication."""
Secret = Annotated[str, Meta(min_length=8, max_length=256, pattern=r"^[!-~]+$")]


class NewVendorKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made, or one that the vendor had given out, to be gone on with."""

    dialect: DialectName
    role: Role = Role.SERVER
    """`server`, or `device` for what ships inside apps."""
    identity: Identity | None = None
    """ConnectyCube: auth key. Kumulos: API key. Backendless: application id. Gravitec: app key. Appenate: company id.
    Absent: made up."""
    secret: Secret | None = None
    """ConnectyCube: auth secret. Kumulos: server key or device secret. Backendless: API key. Gravitec: app secret.
    Appenate: integration key. Absent: made up."""
    name: Annotated[str, Meta(max_length=255)] = ""
    """For people."""


class VendorKey(Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: int
    app_id: AppId
    dialect: DialectName
    role: Role
    identity: str
    name: str
    hint: str
    """The first characters of the secret, where it is long enough to keep the rest to itself."""
    created_at: float
    revoked_at: float | None
