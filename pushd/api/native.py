"""The native API as a whole: every operation there is, and its mounting beside reference and health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pushd.api import (
    apps,
    audience,
    badges,
    beacons,
    channels,
    credentials,
    devices,
    docs,
    erasures,
    events,
    gateways,
    geofences,
    health,
    import_check,
    imports,
    in_app,
    inbox,
    index,
    keys,
    live_activity_channels,
    locations,
    notifications,
    receipts,
    reports,
    retirements,
    safari_sites,
    schedules,
    segments,
    templates,
    users,
    vendor_keys,
    webhooks,
)
from pushd.api.health import Ready
from pushd.api.operation import Operation
from pushd.api.serve import Api
from pushd.web.auth import Authenticator
from pushd.web.cursor import Cursors
from pushd.web.router import Router

if TYPE_CHECKING:
    from pushd.commands.context import Context

OPERATIONS: tuple[Operation, ...] = (
    *notifications.OPERATIONS,
    *reports.OPERATIONS,
    *schedules.OPERATIONS,
    *receipts.OPERATIONS,
    *beacons.OPERATIONS,
    *events.OPERATIONS,
    *webhooks.OPERATIONS,
    *in_app.OPERATIONS,
    *inbox.OPERATIONS,
    *audience.OPERATIONS,
    *devices.OPERATIONS,
    *locations.OPERATIONS,
    *badges.OPERATIONS,
    *live_activity_channels.OPERATIONS,
    *users.OPERATIONS,
    *erasures.OPERATIONS,
    *channels.OPERATIONS,
    *imports.OPERATIONS,
    *import_check.OPERATIONS,
    *segments.OPERATIONS,
    *templates.OPERATIONS,
    *geofences.OPERATIONS,
    *retirements.OPERATIONS,
    *credentials.OPERATIONS,
    *gateways.OPERATIONS,
    *safari_sites.OPERATIONS,
    *apps.OPERATIONS,
    *keys.OPERATIONS,
    *vendor_keys.OPERATIONS,
    *index.OPERATIONS,
)


def mount(router: Router, context: Context, auth: Authenticator, cursor_key: bytes, ready: Ready) -> None:
    """Routes everything: operations, document and reference page, health. `cursor_key` is 32 bytes of the daemon's."""
    Api(context, auth, Cursors(cursor_key), context.config.http).mount(router, OPERATIONS)
    docs.mount(router, OPERATIONS)
    health.mount(router, ready)
