"""Services that exports come from, by name."""

from __future__ import annotations

from pushd.cli.exports import appenate, backendless, connectycube, gravitec, kumulos, plain
from pushd.cli.exports.records import Service

SERVICES: dict[str, Service] = {
    each.name: each
    for each in (
        *(connectycube.SERVICE, kumulos.SERVICE, backendless.SERVICE, gravitec.SERVICE, appenate.SERVICE),
        *(plain.CSV, plain.NDJSON),
    )
}
