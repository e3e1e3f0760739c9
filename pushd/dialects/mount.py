"""Which dialects a daemon speaks, as surfaces of its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pushd.dialect import Dialect, DialectKeys
from pushd.dialects.appenate import Appenate
from pushd.dialects.backendless.api import Backendless
from pushd.dialects.connectycube.api import ConnectyCube
from pushd.dialects.gravitec.api import Gravitec
from pushd.dialects.kumulos.api import Kumulos
from pushd.model.vendor_key import DialectName

if TYPE_CHECKING:
    from pushd.commands.context import Context

DIALECTS: dict[DialectName, type[Dialect]] = {
    each.name: each for each in (ConnectyCube, Kumulos, Gravitec, Appenate, Backendless)
}
"""In the order in which they are asked: Backendless' own domains leave `/api/v2` and `/api/v3` to the others."""


def surfaces(context: Context) -> list[Dialect]:
    """The dialects of the configuration."""
    keys = DialectKeys(context.store.vendor_keys, context.config.http.auth_failures_per_minute_max)
    spoken = context.config.dialects.spoken
    return [dialect(context, keys) for name, dialect in DIALECTS.items() if name in spoken]
