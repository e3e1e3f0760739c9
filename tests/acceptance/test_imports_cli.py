"""Channels, segments and imports on the command line."""

from __future__ import annotations

import base64
import hashlib

import pytest

from pushd.cli.errand import PART_BYTES
from pushd.cli.imports import parts
from tests.acceptance.commands import pushd
from tests.acceptance.world import Tenant

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_channels_and_segments(tenant: Tenant):
    async def run(*arguments):
        return await pushd(tenant.server, *arguments)

    await tenant.register("a", user_id="ada")
    made = await run("channel", "create", "ne/ws", "--name", "News", "--meta", '{"k": 1}', "--in-portal")
    assert (made["uuid"], made["name"], made["meta"], made["show_in_portal"]) == ("ne/ws", "News", {"k": 1}, True)
    done = await run("channel", "subscribe", "ne/ws", "--user", "ada", "--install", "a", "--user", "bob")
    assert done == {"errors": {"unknown_users": ["bob"]}}
    assert (await run("channel", "show", "ne/ws"))["devices"] == 1
    assert await run("channel", "subscribers", "ne/ws", "--installs") == [{"name": "a"}]
    assert [each["uuid"] for each in await run("channel", "of", "--user", "ada")] == ["ne/ws"]
    changed = await run("channel", "change", "ne/ws", "--uuid", "news", "--not-in-portal")
    assert (changed["uuid"], changed["name"], changed["show_in_portal"]) == ("news", "News", False)
    assert await run("channel", "unsubscribe", "news", "--install", "a") == {"errors": {}}
    assert await run("channel", "of", "--install", "a") == []
    audience = '{"type": "channels", "any": ["news"]}'
    segment = await run("segment", "create", "Readers", "--uuid", "readers", "--audience", audience)
    assert segment["audience"] == {"type": "channels", "any": ["news"]}
    assert (await run("segment", "change", "readers", "--name", "All", "--broadcast"))["audience"][
        "type"
    ] == "broadcast"
    assert await run("segment", "list") == [await run("segment", "show", "readers")]


async def test_files_are_imported_and_gone_on_with(tenant: Tenant, tmp_path):
    file = tmp_path / "users.csv"
    lines = "".join(f"user-{number},{'long ' * 150},news\n" for number in range(1_500))
    file.write_text("external_id,attributes.text,subscribe\n" + lines + "x,y\n")
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    assert len(list(parts(file))) == 2
    assert b"".join(each.body for each in parts(file)) == file.read_bytes()
    assert all(part.body.endswith(b"\n") and len(part.body) <= PART_BYTES for part in parts(file))
    # A part was uploaded before something broke off.
    begun = await tenant.server.ok("POST", "/imports", {"job": {"type": "users", "format": "csv"}})
    first = next(parts(file)).body
    digest = base64.b64encode(hashlib.sha256(first).digest()).decode()
    headers = {"Content-Type": "application/octet-stream", "Content-Digest": f"sha-256=:{digest}:"}
    await tenant.server.ok("PUT", f"/imports/{begun['id']}/parts/1", data=first, headers=headers)
    view = await pushd(tenant.server, "import", "users", str(file), "--resume", str(begun["id"]))
    assert (view["id"], view["state"], view["parts"]) == (begun["id"], "done", 2)
    assert (view["lines"], view["done"], view["rejected"]) == (1_502, 1_502, 1)
    assert [each["line"] for each in view["rejects"]] == [1_502]
    # What has ended is shown again, and nothing else is done.
    assert await pushd(tenant.server, "import", "users", str(file), "--resume", str(begun["id"])) == view
    names = tmp_path / "names.txt"
    names.write_text("user-1\nuser-2\nnobody\n")
    await tenant.register("a", user_id="user-1")
    off = await pushd(tenant.server, "import", "unsubscribe", "news", str(names))
    assert [each["value"] for each in off["rejects"]] == ["nobody"]
    assert (await tenant.server.ok("GET", "/channels/news"))["devices"] == 0
    on = await pushd(tenant.server, "import", "subscribe", "news", str(names), "--no-wait")
    shown = await pushd(tenant.server, "import", "show", str(on["id"]))
    assert shown["lines"] == 3
    assert [each["id"] for each in await pushd(tenant.server, "import", "list")] == [on["id"], off["id"], view["id"]]
    assert [each["line"] for each in await pushd(tenant.server, "import", "rejects", str(off["id"]))] == [3]
