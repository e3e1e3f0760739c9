"""Imports of records through HTTP: channels, users, devices and subscriptions in one file, and their dry run."""

from __future__ import annotations

import orjson
import pytest

from tests.acceptance.test_imports import count, finished, rejects, upload
from tests.acceptance.world import BUNDLE, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="package")

COUNTED = ("users", "installs", "devices", "channels", "imports", "import_parts", "changes", "labels")


def lines(*records) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" if record else b"\n" for record in records)


def device(tenant: Tenant, install_id: str, **fields):
    return {"install_id": install_id, "bundle": BUNDLE, "token": tenant.token(), **fields}


async def check(tenant: Tenant, *records, create: bool = False):
    """Rejects and the summary of a dry run."""
    path = "/imports/check" + ("?create_channels=true" if create else "")
    *told, summary = await tenant.server.lines(path, [record or b"" for record in records])
    assert summary.pop("type") == "summary"
    return [each for each in told if each["type"] == "reject"], {name: many for name, many in summary.items() if many}


def records(tenant: Tenant):
    return (
        {"channel": {"uuid": "news", "name": "News", "show_in_portal": True}},
        {
            "user": {"external_id": "ada", "tags": ["beta"], "attributes": {"plan": "pro"}, "subscribe": ["news"]},
            "devices": [
                device(tenant, "a", user_id="ada", tags=["t"], locale="en-GB", time_zone="Europe/London"),
                device(tenant, "a", kind="apns_voip"),
            ],
            "install": {"install_id": "a", "subscribe": ["sports"]},
        },
        None,
        {"devices": [device(tenant, "b", user_id="bob", platform="ios", alias="B")]},
        {"devices": [device(tenant, "c", token="not hexadecimal")], "user": {"external_id": "eve"}},
        {"install": {"install_id": "nobody", "subscribe": ["news"]}},
        {"install": {"install_id": "b", "subscribe": ["news"]}},
        {"user": {"external_id": "x", "tags": 7}},
    )


async def test_records_become_channels_users_devices_and_subscriptions(tenant: Tenant):
    job = {"type": "records", "create_channels": True, "source": "a file"}
    import_id = await upload(tenant, job, lines(*records(tenant)))
    shown = await finished(tenant, import_id)
    assert (shown["state"], shown["lines"], shown["done"], shown["rejected"]) == ("done", 8, 8, 3), shown
    found = await rejects(tenant, import_id)
    assert [each[0] for each in found] == [5, 6, 8]
    assert found[0][2].startswith("/devices/0/token: ")
    assert found[1][1:] == ("nobody", "is no install of the app")
    assert "$.user.tags" in found[2][2]
    assert (await tenant.server("GET", "/users/eve")).status == 404
    ada = await tenant.server.ok("GET", "/users/ada")
    assert (ada["tags"], ada["attributes"]) == (["beta"], {"plan": "pro"})
    first, second = (await tenant.server.ok("GET", "/devices?user_id=ada"))["items"]
    assert (first["install_id"], first["kind"], second["kind"]) == ("a", "apns", "apns_voip")
    assert (first["locale"], first["time_zone"], first["tags"]) == ("en-GB", "Europe/London", ["t"])
    news, sports = (await tenant.server.ok("GET", "/channels"))["items"]
    assert (news["uuid"], news["name"], news["show_in_portal"], sports["uuid"]) == ("news", "News", True, "sports")
    assert await count(tenant, {"type": "channels", "any": ["news"]}) == 2
    assert await count(tenant, {"type": "channels", "any": ["sports"]}) == 1
    assert await count(tenant, {"type": "users", "ids": ["bob"]}) == 1
    done = await tenant.sent({"type": "channels", "any": ["sports", "news"]})
    assert done["counts"]["accepted"] == 2


async def test_channels_are_made_only_where_that_is_wanted(tenant: Tenant):
    job = {"type": "records"}
    line = {"devices": [device(tenant, "a")], "install": {"install_id": "a", "subscribe": ["news"]}}
    shown = await finished(tenant, await upload(tenant, job, lines(line)))
    assert (shown["done"], shown["rejected"]) == (1, 1)
    assert await rejects(tenant, shown["id"]) == [(1, "a", "there is no channel news")]
    assert (await tenant.server.ok("GET", "/channels"))["items"] == []
    assert (await tenant.server.ok("GET", "/devices"))["items"] == []


async def state(tenant: Tenant, world):
    """Every row of the tables that an import writes, as text."""
    connection = world.daemon.store.database
    return {
        table: await connection.fetchval(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")
        for table in COUNTED
    }


async def test_a_dry_run_tells_what_would_come_of_it_and_writes_nothing(tenant: Tenant, world):
    await tenant.register("b", user_id="alice")
    moving = tenant.token()
    await tenant.register("old", token=moving)
    more = (
        {"devices": [device(tenant, "new", token=moving)]},
        {"devices": [device(tenant, "new", token=moving)]},
        {"user": {"external_id": "ada", "unsubscribe": ["news"]}},
    )
    given = (*records(tenant), *more)
    before = await state(tenant, world)
    told, counts = await check(tenant, *given, create=True)
    assert await state(tenant, world) == before
    assert [(each["line"], each["value"]) for each in told][1] == (6, "nobody")
    assert [each["line"] for each in told] == [5, 6, 8]
    assert counts == {
        "lines": 11,
        "rejected": 3,
        "users_made": 2,
        "installs_made": 2,
        "installs_changed": 1,
        "installs_moved": 1,
        "addresses_made": 3,
        "addresses_changed": 1,
        "addresses_moved": 1,
        "channels_made": 2,
        "subscriptions": 3,
    }
    told, counts = await check(tenant, {"install": {"install_id": "b", "subscribe": ["none"]}})
    assert told[0]["reason"] == "there is no channel none"
    assert counts == {"lines": 1, "rejected": 1}


async def test_a_dry_run_foretells_what_an_import_does(tenant: Tenant):
    given = [{"user": {"external_id": f"u{n % 50}"}, "devices": [device(tenant, f"i{n % 70}")]} for n in range(2_500)]
    _, counts = await check(tenant, *given)
    await finished(tenant, await upload(tenant, {"type": "records"}, lines(*given)))
    assert (counts["lines"], counts["users_made"], counts["installs_made"]) == (2_500, 50, 70)
    assert len((await tenant.server.ok("GET", "/users"))["items"]) == 50
    assert await count(tenant, {"type": "broadcast"}) == counts["addresses_made"] == 70


async def test_texts_and_numbers_that_cannot_be_are_refused_by_line(tenant: Tenant):
    bad = (
        b'{"devices": [{"install_id": "a\\u0000", "kind": "fcm", "token": "abcdefgh"}]}',
        b'{"install": {"install_id": "a\\u0000b", "subscribe": []}}',
        b'{"channel": {"name": "no uuid"}}',
        b'{"channel": {"uuid": "n\\u0000"}}',
        b'{"install": {"install_id": "a", "subscribe": ["x"], "unsubscribe": ["x"]}}',
        b'{"user": {"external_id": "ada", "attributes": {"n": ' + b"9" * 400 + b"}}}",
        b'{"user": {"external_id": "ada", "attributes": ' + b'{"a":' * 50_000,
        b"\xff",
        b"[]",
        b'{"unknown": 1}',
    )
    import_id = await upload(tenant, {"type": "records"}, b"\n".join(bad))
    shown = await finished(tenant, import_id)
    assert (shown["state"], shown["rejected"]) == ("done", len(bad)), shown
    *told, summary = await tenant.server.lines("/imports/check", bad)
    assert [each["line"] for each in told if each["type"] == "reject"] == list(range(1, len(bad) + 1))
    assert summary["rejected"] == len(bad)
