"""Apps, their keys and credentials; and that nobody sees another's."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import ConflictError, InternalError, NotFoundError
from pushd.model.app import Role, Settings
from pushd.model.audience import Broadcast
from pushd.model.channel import NewChannel
from pushd.model.credential import CredentialState
from pushd.model.device import Environment, GatewayName
from pushd.model.geofence import GeofenceChange
from pushd.model.imports import Subscribe
from pushd.model.live_activity import LiveActivityChannel
from pushd.model.message import Message
from pushd.model.safari import SiteSettings
from pushd.model.segment import NewSegment
from pushd.model.template import NewTemplate
from pushd.model.user import UserChange
from pushd.model.vendor_key import DialectName
from pushd.store.locations import Crossed, Crossing, Report
from pushd.store.store import Store
from pushd.targeting.index import Index
from tests.integration.store.samples import NOW, accept, registration

pytestmark = pytest.mark.asyncio


async def test_apps_are_created_read_listed_and_changed(store):
    made = [await store.apps.create(f"app {number}", Settings(time_zone="Europe/Berlin")) for number in range(3)]
    assert await store.apps.get(made[1].id) == made[1]
    assert list(await store.apps.list(made[0].id, 10)) == made[1:]
    assert list(await store.apps.list(0, 1)) == made[:1]
    changed = await store.apps.update(made[0].id, "another", None)
    assert changed.name == "another"
    assert changed.settings.time_zone == "Europe/Berlin"
    assert (await store.apps.update(made[0].id, None, Settings())).settings == Settings()
    assert await store.apps.update(999, "x", None) is None
    assert await store.apps.get(999) is None


async def test_a_deleted_app_is_gone_at_once_and_its_rows_later(store, app, other, node):
    _, secret = await store.keys.create(app.id, Role.SERVER, "server")
    await store.credentials.put(app.id, GatewayName.APNS, Environment.SANDBOX, "c", {}, lambda _: b"x")
    done = await store.devices.register_many(app.id, [registration(1, user_id="u", tags=["t"])], NOW)
    kept = await store.devices.register_many(other.id, [registration(1)], NOW)
    running = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    assert await store.apps.delete(app.id)
    assert not await store.apps.delete(app.id)
    assert await store.apps.get(app.id) is None
    store.keys.forget()
    assert await store.keys.authenticate(secret) is None
    assert await store.credentials.load_active() == []
    assert (await store.notifications.get(app.id, running.id)).notification.state == "cancelled"
    with pytest.raises(NotFoundError):
        await store.devices.register_many(app.id, [registration(2)], NOW)
    with pytest.raises(NotFoundError):
        await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    await store.database.execute("UPDATE apps SET deleted_at = now() - interval '2 days' WHERE id = $1", app.id)
    await store.maintenance.purge()
    for table in ("devices", "installs", "users", "labels"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table} WHERE app_id = $1", app.id) == 0
    assert len(await store.devices.images(done.ids)) == 0
    assert len(await store.devices.images(kept.ids)) == 1
    await store.maintenance.purge()  # finds nothing left, and looks for nothing from then on
    left = await store.database.fetch("SELECT id FROM apps WHERE purged_at IS NULL")
    assert [row["id"] for row in left] == [other.id]


@pytest.mark.parametrize("kind", ["native", "vendor"])
async def test_a_key_that_is_made_as_its_app_goes_is_good_for_nothing(store, app, kind):
    def make():
        if kind == "native":
            return store.keys.create(app.id, Role.SERVER, "late")
        return store.vendor_keys.create(app.id, DialectName.GRAVITEC, Role.SERVER, "late", "secret", None, "late")

    async with store.database.transaction() as connection:
        await connection.execute("SELECT delete_app($1)", app.id)
        making = asyncio.create_task(make())
        await asyncio.sleep(0.1)
        assert not making.done()
    with pytest.raises(NotFoundError):
        await making
    table = "api_keys" if kind == "native" else "vendor_keys"
    assert await store.database.fetchval(f"SELECT count(*) FROM {table} WHERE revoked_at IS NULL") == 0
    with pytest.raises(NotFoundError):
        await make()


HISTORY = {
    *("api_keys", "id_blocks", "changes", "idempotency", "runs", "notifications", "outcome_deltas", "outcome_parts"),
    *("receipt_deltas", "receipt_parts", "opened_day_deltas", "opened_days", "rollouts", "tallies"),
    "events",
}
"""Tables whose rows outlive an app: what ages out by itself, revoked keys, and ids that are never given again."""


async def test_nothing_of_a_deleted_app_is_left_in_any_table(store, app, other):
    for each in (app, other):
        await filled(store, each)
    assert await store.apps.delete(app.id)
    # What was under way in that moment, and takes no lock of the app.
    await store.safari_sites.put(app.id, "web.late", SITE, [b"png"] * 6)
    with pytest.raises(NotFoundError):
        await store.templates.create(app.id, "late", NewTemplate(name="late", message=Message(title="hi")))
    await store.database.execute("UPDATE apps SET deleted_at = now() - interval '2 days' WHERE id = $1", app.id)
    await store.locations.sweep(0, 100)
    await store.imports.sweep(86_400, 86_400)
    await store.maintenance.sweep_channels()
    await store.maintenance.purge()
    while await store.in_app.sweep(time.time(), 86_400, 100):
        pass
    tables = await store.database.fetch(
        "SELECT c.table_name AS name FROM information_schema.columns c JOIN information_schema.tables t"
        " USING (table_schema, table_name) WHERE c.column_name = 'app_id' AND t.table_schema = current_schema()"
        " AND t.table_type = 'BASE TABLE' AND c.table_name !~ '_(default|[0-9]{4}_[0-9]{2})$'"
    )
    names = {row["name"] for row in tables} - HISTORY
    assert len(names) >= 14
    for name in names:
        rows = await store.database.fetch(f"SELECT DISTINCT app_id FROM {name}")
        assert [row["app_id"] for row in rows] == [other.id], name
    for name in ("import_parts", "geofence_counts", "crossings", "crossing_rests"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {name}") == 1, name


async def test_nothing_is_made_for_an_app_that_is_gone(store, app):
    channel = await store.channels.create(app.id, "news", NewChannel())
    assert await store.apps.delete(app.id)
    fence = GeofenceChange(name="F", bounds={}, enabled=True, tags=[], on_enter=None, on_exit=None)
    for call in (
        store.channels.create(app.id, "more", NewChannel()),
        store.channels.delete(app.id, channel.id),
        store.channels.subscribe_users(app.id, channel.id, ["u"], on=True),
        store.channels.change(app.id, user="u", add=["news"]),
        store.geofences.create(app.id, fence, 8),
        store.imports.create(app.id, Subscribe(channel="news"), channel.id, 8),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_who_starts_after_a_deletion_knows_nothing_of_the_app(store, app, other):
    for each in (app, other):
        await store.devices.register_many(each.id, [registration(number, user_id="u") for number in range(20)], NOW)
    assert await store.apps.gone() == []
    await store.apps.delete(app.id)
    assert await store.apps.gone() == [app.id]
    index = Index()
    for app_id in await store.apps.gone():
        index.remove_app(app_id)
    async for users in store.users.load():
        index.apply_users(users)
    async for devices in store.devices.load():
        index.apply_devices(devices)
    assert [index.stats()[name] for name in ("apps", "devices", "users")] == [1, 20, 1]
    await store.database.execute("UPDATE apps SET deleted_at = now() - interval '2 days' WHERE id = $1", app.id)
    await store.maintenance.purge()
    assert await store.apps.gone() == []


async def test_whoever_starts_while_an_app_is_purged_can_read_what_is_left(store, app, dsn):
    await store.maintenance.stop()  # it would purge too, at once after the start
    fields = {"user_id": "u", "tags": ["t"], "locale": "de"}
    await store.devices.register_many(app.id, [registration(number, **fields) for number in range(3)], NOW)
    assert await store.apps.delete(app.id)
    await store.database.execute("UPDATE apps SET deleted_at = now() - interval '2 days' WHERE id = $1", app.id)
    left = []
    more = True
    while more:
        more = await store.database.fetchval("SELECT purge(now(), now(), NULL, 1)")
        another = Store(StoreConfig(), dsn)
        await another.database.start()
        left.append(sum([len(rows) async for rows in another.devices.load()]))
        await another.database.stop()
    assert left[0] == 2
    assert left[-1] == 0
    for table in ("installs", "labels", "profiles", "routes"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") == 0


SITE = SiteSettings(website_name="A", allowed_domains=["https://a.example"], web_service_url="https://b.example")


STATEMENTS = """
INSERT INTO open_deltas (app_id, opens, at) VALUES ($1, '', now());
INSERT INTO crowds (app_id, touched, weights) VALUES ($1, 0, '');
INSERT INTO listeners (app_id) VALUES ($1);
INSERT INTO webhooks (app_id, name, url, types, batch_max, sealed, at_xid, created_at, updated_at)
    VALUES ($1, '', '', 1, 1, '', '3', now(), now());
INSERT INTO erasures (app_id, user_id, installs, devices, requested_at) VALUES ($1, 1, '{}', '{}', now());
INSERT INTO in_app_messages (id, app_id, created_at, audience, body, updated_at)
    VALUES ($1::int, $1::int, now(), '', '', now());
INSERT INTO in_app_live VALUES ($1::int, $1::int, 0, now() + interval '1 day', 0, now());
INSERT INTO in_app_pushes VALUES ($1::int, $1::int, now(), now(), now());
INSERT INTO dialect_events (id, app_id, dialect, user_id, notification_id, told, created_at, updated_at)
    VALUES ($1::int, $1::int, '', 1, 1, '', now(), now());
INSERT INTO badge_apps VALUES ($1, 1);
INSERT INTO badge_deltas VALUES ($1::int, 1, 1, false, true, '', now());
INSERT INTO badge_parts VALUES ($1, 0, '', '');
INSERT INTO schedules (id, app_id, created_at, accepted_at, send, recurring) VALUES (1, $1, now(), now(), '', true)
"""


async def filled(store, app):
    """Something of everything in an app."""
    fields = {"user_id": "u", "tags": ["t"], "locale": "de"}
    (device,) = (await store.devices.register_many(app.id, [registration(1, **fields)], NOW)).ids.tolist()
    channel = await store.channels.create(app.id, "news", NewChannel())
    await store.channels.subscribe_users(app.id, channel.id, ["u"], on=True)
    await store.segments.create(app.id, "all", NewSegment(name="All", audience=Broadcast()))
    made = await store.imports.create(app.id, Subscribe(channel="news"), channel.id, 8)
    await store.imports.put_part(app.id, made.id, 1, 1, b"d", b"u\n")
    await store.imports.start(app.id, made.id)
    fence = GeofenceChange(name="F", bounds={}, enabled=True, tags=[], on_enter=None, on_exit=None)
    fence_id = await store.geofences.create(app.id, fence, 8)
    for number, rest_s in enumerate((0, 60)):
        store.locations.crossed = Crossed(lambda *_, rest_s=rest_s: [Crossing(fence_id, rest_s == 0, rest_s)])
        await store.locations.put(Report(app.id, device, (1, number), None, NOW + number))
    await store.database.execute("DELETE FROM crossings WHERE NOT entered")
    await store.credentials.put(app.id, GatewayName.APNS, Environment.SANDBOX, "c", {}, lambda _: b"x")
    await store.safari_sites.put(app.id, "web.a", SITE, [b"png"] * 6)
    await store.pictures.put(app.id, "a.png", b"png", NOW)
    await store.templates.create(app.id, "a", NewTemplate(name="a", message=Message(title="hi")))
    key = (app.id, DialectName.BACKENDLESS, Role.SERVER, f"identity-{app.id}", "secret", None, "")
    await store.vendor_keys.create(*key)
    user = UserChange(external_id="u")
    await store.accounts.create(app.id, user, login="u", email=None, password=b"x", fields={}, now=NOW)
    await store.sessions.open(app.id, DialectName.BACKENDLESS, None, token_bytes=8, lives_s=60, now=NOW)
    live = LiveActivityChannel(
        id=device,
        channel_id="c",
        bundle="a",
        environment=Environment.SANDBOX,
        stores=True,
        reachable=True,
        created_at=NOW,
    )
    await store.live_activity_channels.put(app.id, live)
    for statement in filter(None, map(str.strip, STATEMENTS.split(";"))):
        await store.database.execute(statement, app.id)


async def test_of_a_key_only_its_digest_is_stored(store, app, dsn):
    key, secret = await store.keys.create(app.id, Role.DEVICE, "client")
    assert secret.startswith("pushd_device_")
    assert len(secret) == len("pushd_device_") + 43
    assert secret.startswith(key.hint)
    row = await store.database.fetchrow("SELECT to_jsonb(k) AS all, digest FROM api_keys k")
    assert secret not in row["all"]
    assert row["digest"] == hashlib.sha256(secret.encode()).digest()
    assert await store.keys.authenticate(secret) == key
    assert await store.keys.authenticate(secret + "x") is None
    assert await store.keys.authenticate("\udc80") is None


async def test_known_keys_do_not_need_the_database_and_revoked_ones_are_none(store, app, other):
    key, secret = await store.keys.create(app.id, Role.SERVER, "server")
    await store.keys.authenticate(secret)
    reads = store.database.fetchrow
    store.database.fetchrow = None
    assert await store.keys.authenticate(secret) == key
    store.database.fetchrow = reads
    assert await store.keys.revoke(other.id, key.id) is None
    revoked = await store.keys.revoke(app.id, key.id)
    assert revoked.revoked_at is not None
    assert await store.keys.revoke(app.id, key.id) == revoked
    assert await store.keys.authenticate(secret) is None
    assert list(await store.keys.list(app.id)) == [revoked]


async def test_admin_keys_belong_to_no_app(store, app):
    admin, _ = await store.keys.create(None, Role.ADMIN, "first")
    assert list(await store.keys.list(None)) == [admin]
    assert list(await store.keys.list(app.id)) == []
    with pytest.raises(InternalError):
        await store.keys.create(app.id, Role.ADMIN, "no")


async def test_credentials_are_sealed_for_their_id_replaced_paused_and_deleted(store, app, other):
    place = (app.id, GatewayName.APNS, Environment.PRODUCTION)
    made = await store.credentials.put(*place, "main", {"team_id": "T"}, lambda id_: b"sealed %d" % id_)
    assert made.state is CredentialState.ACTIVE
    with pytest.raises(ConflictError):
        await store.credentials.put(*place, "main", {}, lambda _: b"")
    paused = await store.credentials.set_state(app.id, made.id, CredentialState.PAUSED, "refused")
    assert paused.paused_reason == "refused"
    replaced = await store.credentials.put(
        *place, "newer", {"team_id": "U"}, lambda id_: b"again %d" % id_, credential_id=made.id
    )
    assert (replaced.id, replaced.name, replaced.state) == (made.id, "newer", CredentialState.ACTIVE)
    (row,) = await store.credentials.load_active()
    assert row.sealed == b"again %d" % made.id
    # A refusal that is late is of the secret before.
    late = b"sealed %d" % made.id
    assert await store.credentials.set_state(app.id, made.id, CredentialState.PAUSED, "refused", late) is None
    assert (await store.credentials.get(app.id, made.id)).state is CredentialState.ACTIVE
    assert await store.credentials.get(other.id, made.id) is None
    assert await store.credentials.set_state(other.id, made.id, CredentialState.PAUSED, None) is None
    assert not await store.credentials.delete(other.id, made.id)
    moved = (other.id, *place[1:])
    assert await store.credentials.put(*moved, "stolen", {}, lambda _: b"", credential_id=made.id) is None
    assert await store.credentials.delete(app.id, made.id)
    assert list(await store.credentials.list(app.id)) == []


async def test_a_tenant_cannot_see_or_touch_another_s_anything(store, app, other, node):
    mine = await store.devices.register_many(app.id, [registration(1, user_id="u", tags=["t"])], NOW)
    device_id = int(mine.ids[0])
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([device_id])))
    assert await store.devices.get(other.id, device_id) is None
    assert list(await store.devices.list(other.id, 0, 10)) == []
    assert list(await store.devices.list(other.id, 0, 10, install_id="install-1")) == []
    assert list(await store.devices.list(other.id, 0, 10, user_id="u")) == []
    assert len(await store.devices.delete_many(other.id, [device_id], NOW)) == 0
    assert (await store.devices.revive(other.id, 0)).count == 0
    assert await store.users.get(other.id, "u") is None
    assert list(await store.users.get_many(other.id, [1])) == []
    assert await store.users.delete(other.id, "u") is None
    assert await store.notifications.get(other.id, sent.id) is None
    assert list(await store.notifications.list(other.id, 0, 10)) == []
    assert not await store.notifications.cancel(other.id, sent.id)
    assert not await store.notifications.rename(other.id, sent.id, "x")
    assert await store.notifications.counts(other.id, sent.id) == {}
    assert list(await store.notifications.pending_devices(other.id, sent.id, 0, 10)) == []
    # The same install, token and user elsewhere is somebody else.
    theirs = await store.devices.register_many(other.id, [registration(1, user_id="u", tags=["T"])], NOW)
    assert theirs.ids[0] != device_id
    assert theirs.rows.ids.tolist() == theirs.ids.tolist()
    assert (await store.devices.get(app.id, device_id)).reachable
    assert (await store.devices.get(other.id, int(theirs.ids[0]))).tags == ["T"]
    assert (await store.users.put_many(other.id, [UserChange(external_id="u")]))[0] != [
        (await store.users.get(app.id, "u")).id
    ]
