"""Imports through HTTP: files checked whole, spooled, carried out in the background; whoever they name is reached."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import aiohttp
import pytest

from tests.acceptance.world import PATIENCE_S, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="package")

NEWS = {"type": "channels", "any": ["news"]}


async def finished(tenant: Tenant, import_id: int):
    """The import, once it has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            shown = await tenant.server.ok("GET", f"/imports/{import_id}")
            if shown["state"] not in {"uploading", "waiting", "running"}:
                return shown
            await asyncio.sleep(0.02)


async def rejects(tenant: Tenant, import_id: int):
    found = await tenant.server.ok("GET", f"/imports/{import_id}/rejects")
    return [(each["line"], each["value"], each["reason"]) for each in found["items"]]


async def count(tenant: Tenant, audience) -> int:
    return (await tenant.server.ok("POST", "/audience/count", {"audience": audience}))["devices"]


async def upload(tenant: Tenant, job, *bodies: bytes) -> int:
    """The id of an import that was started."""
    made = await tenant.server("POST", "/imports", json={"job": job})
    assert made.status == 201, made.body
    import_id = made.body["id"]
    for part, body in enumerate(bodies, 1):
        put = await part_of(tenant, import_id, part, body)
        assert put.status == 200, put.body
    started = await tenant.server("POST", f"/imports/{import_id}/start")
    assert started.status == 202, started.body
    return import_id


async def part_of(tenant: Tenant, import_id: int, part: int, body: bytes, **headers: str):
    headers = {"Content-Type": "text/csv"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await tenant.server("PUT", f"/imports/{import_id}/parts/{part}", data=body, headers=headers)


async def file(tenant: Tenant, body: bytes, *, name: str = "users.csv", kind: str | None = "text/csv"):
    form = aiohttp.FormData()
    form.add_field("file", body, filename=name, content_type=kind)
    return await tenant.server("POST", "/channels/news/subscribers-file", data=form)


@pytest.mark.parametrize("raw", [False, True])
async def test_a_file_of_subscribers_is_carried_out_and_unknown_users_are_listed(tenant: Tenant, raw: bool):
    for name in "abc":
        await tenant.register(name, user_id=f"user-{name}")
    await tenant.server.ok("PUT", "/users/later%2C%20%22mate%22", {})
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    body = b'\xef\xbb\xbfuser-a\r\n\r\nnobody\nuser-c\n"later, ""mate"""\nnobody'
    if raw:
        path, headers = "/channels/news/subscribers-file", {"Content-Type": "text/csv; charset=utf-8"}
        answer = await tenant.server("POST", path, data=body, headers=headers)
    else:
        answer = await file(tenant, body)
    assert answer.status == 202, answer.body
    assert answer.headers["Location"] == f"/pushd/v1/imports/{answer.body['id']}"
    shown = await finished(tenant, answer.body["id"])
    assert (shown["state"], shown["lines"], shown["done"], shown["rejected"]) == ("done", 6, 6, 2)
    assert await rejects(tenant, shown["id"]) == [
        (3, "nobody", "is no user of the app"),
        (6, "nobody", "is no user of the app"),
    ]
    assert await count(tenant, NEWS) == 2
    await tenant.register("d", user_id='later, "mate"')
    assert await count(tenant, NEWS) == 3


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b"", ["/1/1"]),
        (b"fine\nuser,other\nfine\n\xff\nfine", ["/2/2", "/4/1"]),
        (b"a" * 256 + b"\n" + "ü".encode() * 255, ["/1/1"]),
        (b'fine\n"open\nfine', ["/2/1"]),
        (b'fine\n""\n', ["/2/1"]),
        (b"a\0b", ["/1/1"]),
        (b"a" * 1_100_000, ["/1/1"]),
        (b"fine\n" * 300_000 + b"a,b\n", ["/300001/2"]),
        (b"a,b\n" * 1_000, [f"/{line}/2" for line in range(1, 101)]),
    ],
)
async def test_a_file_that_is_not_valid_is_refused_whole(tenant: Tenant, body: bytes, pointers: list[str]):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await tenant.register("a", user_id="fine")
    answer = await file(tenant, body)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.pointers == pointers
    assert (await tenant.server.ok("GET", "/imports"))["items"] == []
    assert await count(tenant, NEWS) == 0


async def test_the_name_and_type_of_a_file_in_a_form_are_checked(tenant: Tenant):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    for options in ({"name": "users.txt"}, {"kind": "application/json"}):
        answer = await file(tenant, b"ada\n", **options)
        assert (answer.status, answer.pointers) == (400, ["/file"]), options
    for build in (lambda form: form.add_field("x", "y"), lambda form: form.add_field("f", b"a", filename="b.csv")):
        form = aiohttp.FormData()
        form.add_field("file", b"ada\n", filename="a.csv", content_type="text/csv")
        build(form)
        answer = await tenant.server("POST", "/channels/news/subscribers-file", data=form)
        assert (answer.status, answer.pointers) == (400, ["/file"])
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"", b"nothing of a form", b"--x\r\n\r\nno name\r\n--x--\r\n"):
        answer = await tenant.server("POST", "/channels/news/subscribers-file", data=body, headers=broken)
        assert (answer.status, answer.pointers) == (400, ["/file"]), body
    answer = await tenant.server(
        "POST", "/channels/none/subscribers-file", data=b"a", headers={"Content-Type": "text/csv"}
    )
    assert answer.status == 404
    answer = await tenant.server("POST", "/channels/news/subscribers-file", json={"users": ["ada"]})
    assert answer.status == 415
    assert (await tenant.server.ok("GET", "/imports"))["items"] == []
    for unsaid in ("application/octet-stream", "application/vnd.ms-excel"):  # curl's of a CSV, and Windows'
        assert (await file(tenant, b"ada\n", kind=unsaid)).status == 202


async def test_installs_and_unsubscribing_in_parts(tenant: Tenant):
    names = [f"phone-{number}" for number in range(30)]
    await asyncio.gather(*(tenant.register(name) for name in names))
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    lines = [name.encode() + b"\n" for name in names]
    first = await upload(
        tenant, {"type": "subscribe", "channel": "news", "of": "installs"}, b"".join(lines[:20]), b"".join(lines[20:])
    )
    # Of one app imports are carried out in the order in which they were started.
    job = {"type": "unsubscribe", "channel": "news", "of": "installs"}
    second = await upload(tenant, job, b"".join(lines[5:]) + b"none")
    shown = await finished(tenant, second)
    assert (shown["lines"], shown["done"], shown["rejected"], shown["parts"]) == (26, 26, 1, 1)
    assert await rejects(tenant, second) == [(26, "none", "is no install of the app")]
    assert (await finished(tenant, first))["finished_at"] <= shown["finished_at"]
    assert await count(tenant, NEWS) == 5


async def test_users_as_ndjson_and_as_csv(tenant: Tenant):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await tenant.server.ok("POST", "/channels", {"uuid": "sports"})
    for name in "abc":
        await tenant.register(name, user_id=name)
    ndjson = (
        b'{"external_id": "a", "tags": ["x"], "attributes": {"n": 1}, "subscribe": ["news", "sports"]}\n'
        b'{"external_id": "b", "email": "b@example.com", "subscribe": ["none"]}\n'
        b'{"external_id": "c", "subscribe": ["news"], "unsubscribe": ["news"]}\n'
        b'{"external_id": "c", "colour": 1}\n{"external_id": \n{"external_id": "c\\u0000"}\n'
        b'{"external_id": "c", "subscribe": ["news"]}\n{"external_id": "c", "unsubscribe": ["news"]}\n'
    )
    shown = await finished(tenant, await upload(tenant, {"type": "users"}, ndjson))
    assert (shown["state"], shown["done"], shown["rejected"]) == ("done", 8, 5)
    found = await rejects(tenant, shown["id"])
    assert [line for line, _, _ in found] == [2, 3, 4, 5, 6]
    assert found[0][1:] == ("b", "there is no channel none")
    assert await count(tenant, NEWS) == 1
    assert (await tenant.server.ok("GET", "/users/a"))["attributes"] == {"n": 1}
    csv = (
        b"\xef\xbb\xbfexternal_id,email,tags,attributes.plan,attributes.age,subscribe,unsubscribe\r\n"
        b'b,b@example.com,one; two,"pro, yearly",7,news,\r\n'
        b'"d",,"[""semi;colon""]",true,,news;sports,\r\n'
        b"a,,,,,,news\n"
    )
    rest = b'c,a,b\na,,,,,[],"[""sports"""\nc,null,,007,"""7""",,\n'
    shown = await finished(tenant, await upload(tenant, {"type": "users", "format": "csv"}, csv, rest))
    assert (shown["state"], shown["lines"], shown["rejected"]) == ("done", 7, 2)
    assert [line for line, _, _ in await rejects(tenant, shown["id"])] == [5, 6]
    users = {name: await tenant.server.ok("GET", f"/users/{name}") for name in "abcd"}
    assert (users["b"]["email"], users["b"]["tags"]) == ("b@example.com", ["one", "two"])
    assert users["b"]["attributes"] == {"plan": "pro, yearly", "age": 7}
    assert (users["d"]["tags"], users["d"]["attributes"]) == (["semi;colon"], {"plan": True})
    assert users["c"]["attributes"] == {"plan": "007", "age": "7"}
    assert (users["a"]["tags"], users["a"]["attributes"]) == (["x"], {"n": 1})
    channels = await tenant.server.ok("GET", "/users/d/channels")
    assert [each["uuid"] for each in channels["items"]] == ["news", "sports"]
    assert await count(tenant, NEWS) == 1  # b; a is off again
    assert await count(tenant, {"type": "channels", "any": ["sports"]}) == 1


async def test_an_upload_is_resumed_by_number_and_digest(tenant: Tenant):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    import_id = (await tenant.server.ok("POST", "/imports", {"job": {"type": "subscribe", "channel": "news"}}))["id"]
    digest = base64.b64encode(hashlib.sha256(b"a\nb\n").digest()).decode()
    put = await part_of(tenant, import_id, 1, b"a\nb\n", Content_Digest=f"sha-256=:{digest}:")
    assert put.body == {"part": 1, "lines": 2, "digest": hashlib.sha256(b"a\nb\n").hexdigest()}
    assert (await part_of(tenant, import_id, 1, b"a\nb\n")).status == 200
    other = await part_of(tenant, import_id, 1, b"a\nc\n")
    assert (other.status, other.pointers) == (409, ["part"])
    damaged = await part_of(tenant, import_id, 2, b"c\n", Content_Digest=f"sha-256=:{digest}:")
    assert (damaged.status, damaged.pointers) == (400, ["Content-Digest"])
    assert (await part_of(tenant, import_id, 3, b"d")).status == 200
    assert (await tenant.server("POST", f"/imports/{import_id}/start")).status == 409  # part 2 is missing
    assert (await part_of(tenant, import_id, 2, b"")).status == 400
    assert (await part_of(tenant, import_id, 2, b"a\n" * 600_000)).status == 413
    assert (await part_of(tenant, import_id, 1_025, b"a\n")).status == 400
    assert (await part_of(tenant, import_id, 2, b"c\n")).status == 200
    listed = await tenant.server.ok("GET", f"/imports/{import_id}/parts")
    assert [(each["part"], each["lines"]) for each in listed["items"]] == [(1, 2), (2, 1), (3, 1)]
    assert (await tenant.server("POST", f"/imports/{import_id}/start")).status == 202
    assert (await tenant.server("POST", f"/imports/{import_id}/start")).status == 202
    shown = await finished(tenant, import_id)
    assert (shown["lines"], shown["rejected"]) == (4, 4)
    assert [line for line, _, _ in await rejects(tenant, import_id)] == [1, 2, 3, 4]
    assert (await part_of(tenant, import_id, 4, b"e\n")).status == 409


async def test_what_cannot_be_imported_is_told_at_once(tenant: Tenant):
    unknown = await tenant.server("POST", "/imports", json={"job": {"type": "subscribe", "channel": "none"}})
    assert (unknown.status, unknown.pointers) == (400, ["/channel"])
    made = await tenant.server.ok("POST", "/imports", {"job": {"type": "users", "format": "csv"}})
    for header, pointers in (
        (b"email,colour,email\n", ["/1/2", "/1/3", "/1/1"]),
        (b'"open\n', ["/1/1"]),
        (b"external_id,attributes." + b"a" * 65_536 + b"\n", ["/1/1"]),
    ):
        refused = await part_of(tenant, made["id"], 1, header + b"a\n")
        assert (refused.status, refused.pointers) == (400, pointers)
    assert (await part_of(tenant, 999_999, 1, b"a")).status == 404
    refused = await tenant.device("GET", "/imports")
    assert refused.status == 403


async def test_imports_are_cancelled_and_no_more_than_some_are_open(tenant: Tenant, world):
    job = {"job": {"type": "users"}}
    made = [await tenant.server.ok("POST", "/imports", job) for _ in range(8)]
    full = await tenant.server("POST", "/imports", json=job)
    assert (full.status, full.code) == (429, "too_many_requests")
    assert full.headers["Retry-After"]
    cancelled = await tenant.server.ok("DELETE", f"/imports/{made[0]['id']}")
    assert cancelled["state"] == "cancelled"
    assert (await tenant.server("DELETE", f"/imports/{made[0]['id']}")).status == 200
    assert (await tenant.server("POST", "/imports", json=job)).status == 201
    assert (await part_of(tenant, made[0]["id"], 1, b"a")).status == 409
    assert (await tenant.server("POST", f"/imports/{made[0]['id']}/start")).status == 409
    listed = await tenant.server.ok("GET", "/imports?limit=5")
    assert len(listed["items"]) == 5
    rest = await tenant.server.ok("GET", f"/imports?limit=5&cursor={listed['next']}")
    assert [each["id"] for each in (listed["items"] + rest["items"])[1:]] == [each["id"] for each in made[::-1]]
    other = await world.tenant(credential=False)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("GET", "/rejects"), ("GET", "/parts")):
        assert (await other.server(method, f"/imports/{made[1]['id']}{path}")).status == 404
    assert (await part_of(other, made[1]["id"], 1, b"a")).status == 404


async def test_an_import_whose_channel_goes_fails(tenant: Tenant):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    made = await tenant.server.ok("POST", "/imports", {"job": {"type": "subscribe", "channel": "news"}})
    await part_of(tenant, made["id"], 1, b"ada\n")
    # Under another name it is still the same one.
    await tenant.server.ok("PATCH", "/channels/news", {"uuid": "world"})
    await tenant.server.ok("DELETE", "/channels/world")
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await tenant.server.ok("POST", f"/imports/{made['id']}/start")
    shown = await finished(tenant, made["id"])
    assert (shown["state"], shown["failure"]) == ("failed", "There is no such channel")
