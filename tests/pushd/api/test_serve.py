import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from pushd.api.operation import EVERYONE, Listing, Operation, Page, Reply, Scope
from pushd.errors import ConflictError

pytestmark = pytest.mark.asyncio


class Thing(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=5)]


class One(Struct, frozen=True):
    thing_id: Annotated[int, Meta(ge=1)]
    loud: bool = False


class Apps:
    async def get(self, app_id):
        return SimpleNamespace(id=app_id) if app_id in {1, 2} else None


CONTEXT = SimpleNamespace(store=SimpleNamespace(apps=Apps()))


def operation(handler, **more):
    return Operation(
        **({"name": "op", "method": "GET", "path": "/things", "tag": "t", "summary": "s"} | more), handler=handler
    )


async def who(_, caller, request):
    return {"app": caller.app_id, "role": caller.role, "address": request.address}


async def echo(_, __, request):
    return request.body


@pytest.mark.parametrize(
    ("scope", "key", "app", "expected"),
    [
        (Scope.APP, "server", None, 1),
        (Scope.APP, "server", 1, 1),
        (Scope.APP, "server", 2, 404),
        (Scope.APP, "server", 99, 404),
        (Scope.APP, "server", "x", 404),
        (Scope.APP, "device", None, 1),
        (Scope.APP, "other", None, 2),
        (Scope.APP, "admin", None, 400),
        (Scope.APP, "admin", 2, 2),
        (Scope.APP, "admin", 99, 404),
        (Scope.APP, "admin", "0", 404),
        (Scope.APP, "admin", "99999999999999", 404),
        (Scope.APP, "admin", "٣", 404),
        (Scope.EITHER, "admin", None, None),
        (Scope.EITHER, "admin", 1, 1),
        (Scope.EITHER, "server", None, 1),
        (Scope.INSTALLATION, "admin", 99, None),
        (Scope.INSTALLATION, "server", None, 1),
    ],
)
async def test_an_operation_acts_on_one_app(serve_api, scope, key, app, expected):
    if app == "٣":
        app = "%D9%A3"
    async with serve_api([operation(who, scope=scope, roles=EVERYONE)], CONTEXT) as call:
        status, _, body = await call("GET", "/things", key=key, app=app)
        if isinstance(expected, int) and expected >= 400:
            assert status == expected
            if expected == 400:
                assert body["errors"] == [
                    {"parameter": "Pushd-App", "detail": "an admin key names the app it acts on by this header"}
                ]
        else:
            assert (status, body["app"]) == (200, expected)


async def test_another_tenants_app_and_none_at_all_look_alike(serve_api):
    async with serve_api([operation(who)], CONTEXT) as call:
        theirs, nobodys = [await call("GET", "/things", app=app) for app in (2, 99)]
        assert theirs[0] == nobodys[0] == 404
        assert theirs[2] == nobodys[2]


async def test_keys_and_roles(serve_api):
    async with serve_api([operation(who)], CONTEXT) as call:
        for key, status, code in (
            (None, 401, "unauthorized"),
            ("wrong", 401, "unauthorized"),
            ("device", 403, "forbidden"),
        ):
            got, headers, body = await call("GET", "/things", key=key)
            assert (got, body["code"], headers["Content-Type"]) == (status, code, "application/problem+json")
            assert ("WWW-Authenticate" in headers) is (status == 401)
        assert (await call("GET", "/things"))[0] == 200


async def test_no_body_is_read_for_who_may_not(serve_api):
    async def never():
        yield b"{"
        await asyncio.sleep(30)

    async with serve_api([operation(echo, method="POST", body=Thing)], CONTEXT) as call:
        assert (await call("POST", "/things", key="device", data=never()))[0] == 403


async def test_bodies_are_checked(serve_api):
    async with serve_api([operation(echo, method="POST", body=Thing, answer=Thing)], CONTEXT) as call:
        assert await_body(await call("POST", "/things", json={"name": "a"})) == (200, {"name": "a"})
        status, _, body = await call("POST", "/things", json={"name": "abcdef"})
        assert (status, body["code"], body["errors"][0]["pointer"]) == (400, "invalid_request", "/name")
        status, _, body = await call("POST", "/things", json={"name": "a", "x": 1})
        assert (status, body["errors"][0]["pointer"]) == (400, "/x")
        assert (await call("POST", "/things", data="name=a", headers={"Content-Type": "text/plain"}))[0] == 415
        status, _, body = await call("POST", "/things", headers={"Content-Type": "application/json"})
        assert (status, body["errors"]) == (400, [{"pointer": "", "detail": "Input data was truncated"}])


def await_body(answer):
    return answer[0], answer[2]


async def test_parameters_are_checked(serve_api):
    async def show(_, __, request):
        return [request.params.thing_id, request.params.loud]

    async with serve_api(
        [operation(show, path="/things/{thing_id}", params=One), operation(who, name="b")], CONTEXT
    ) as call:
        assert await_body(await call("GET", "/things/7?loud=true")) == (200, [7, True])
        assert (await call("GET", "/things/0"))[0] == 404
        status, _, body = await call("GET", "/things/7?lod=true")
        assert (status, body["errors"][0]["parameter"]) == (400, "lod")
        status, _, body = await call("GET", "/things?verbose=1")
        assert (status, body["errors"][0]["parameter"]) == (400, "verbose")


async def test_replies_nothing_and_errors(serve_api):
    async def create(_, __, request):
        if request.body.name == "twice":
            raise ConflictError("It is there already", extra={"id": 7})
        return Reply(b'{"stored": true}', status=201, headers={"Idempotency-Replayed": "true"})

    async def delete(*_):
        return None

    operations = [
        operation(create, method="POST", body=Thing, answer=Thing),
        operation(delete, method="DELETE", name="d", statuses=(204,)),
    ]
    async with serve_api(operations, CONTEXT) as call:
        status, headers, body = await call("POST", "/things", json={"name": "a"})
        assert (status, headers["Idempotency-Replayed"], body) == (201, "true", {"stored": True})
        status, _, body = await call("POST", "/things", json={"name": "twice"})
        assert (status, body["code"], body["id"]) == (409, "conflict", 7)
        status, headers, body = await call("DELETE", "/things")
        assert (status, body, headers.get("Content-Length")) == (204, "", None)


async def test_idempotency_is_key_and_digest_of_the_body(serve_api):
    async def show(_, __, request):
        found = request.idempotency()
        return found and [found[0], found[1].hex()]

    async with serve_api([operation(show, method="POST", body=Thing, idempotent=True)], CONTEXT) as call:
        raw = b'{"name": "a"}'
        options = {"data": raw, "headers": {"Idempotency-Key": "k-1", "Content-Type": "application/json"}}
        assert (await call("POST", "/things", **options))[2] == ["k-1", hashlib.sha256(raw).hexdigest()]
        assert (await call("POST", "/things", json={"name": "a"}))[2] is None
        for wrong in ("", "x" * 256, "ümlaut"):
            options["headers"]["Idempotency-Key"] = wrong
            status, _, body = await call("POST", "/things", **options)
            assert (status, body["errors"][0]["parameter"]) == (400, "Idempotency-Key")


async def test_what_takes_too_long_is_503(serve_api):
    async def endless(*_):
        await asyncio.Event().wait()

    async with serve_api([operation(endless)], CONTEXT, request_timeout_s=0.1) as call:
        status, headers, body = await call("GET", "/things")
        assert (status, body["code"], headers["Retry-After"]) == (503, "unavailable", "1")


async def test_pages_follow_each_other(serve_api):
    async def listing(_, __, request):
        after = request.after()
        items = list(range(after + 1, min(after + request.limit, 7) + 1))
        return request.listing(items, items)

    table = [
        operation(listing, params=Page, answer=Listing[int]),
        operation(listing, name="b", path="/others", params=Page, answer=Listing[int]),
    ]
    async with serve_api(table, CONTEXT, page_items_max=5) as call:
        seen, cursor = [], None
        while True:
            _, _, body = await call("GET", "/things", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
            seen.append(body["items"])
            cursor = body["next"]
            if cursor is None:
                break
            first = cursor
        assert seen == [[1, 2, 3], [4, 5, 6], [7]]
        assert len((await call("GET", "/things", params={"limit": 1000}))[2]["items"]) == 5
        for path, key in (("/others", "server"), ("/things", "other")):
            status, _, body = await call("GET", path, params={"cursor": first}, key=key)
            assert (status, body["errors"][0]["parameter"]) == (400, "cursor")
        assert (await call("GET", "/things", params={"cursor": first[:-4] + "AAAA"}))[0] == 400


async def lines_in_lines_out(_, __, request):
    reader = request.lines()

    async def answer():
        async for first, rows in reader.batches(2):
            if b"conflict" in rows:
                raise ConflictError("not this one")
            yield {"first": first, "rows": len(rows)}

    return answer()


BULK = operation(lines_in_lines_out, method="POST", body_lines=Thing, answer_lines=Thing)
NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_lines_in_lines_out(serve_api):
    async with serve_api([BULK], CONTEXT) as call:
        headers = NDJSON | {"Authorization": "Bearer server"}
        async with call.session.post(call.base + "/things", data=b"a\nb\nc", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
            lines = [json.loads(line) for line in (await answer.read()).splitlines()]
        assert lines == [{"first": 1, "rows": 2}, {"first": 3, "rows": 1}]
        status, _, body = await call("POST", "/things", data=b"conflict\n", headers=NDJSON)
        assert (status, body["code"]) == (409, "conflict")
        assert (await call("POST", "/things", data=b"a", headers={"Content-Type": "text/csv"}))[0] == 415


async def test_lines_are_answered_while_they_come_and_an_error_is_the_last_line(serve_api):
    go = asyncio.Event()

    async def stream():
        yield b"a\nb\n"
        await go.wait()
        yield b"conflict\n"

    async with serve_api([BULK], CONTEXT) as call:
        headers = NDJSON | {"Authorization": "Bearer server"}
        async with call.session.post(call.base + "/things", data=stream(), headers=headers) as answer:
            assert json.loads(await answer.content.readline()) == {"first": 1, "rows": 2}
            go.set()
            problem = json.loads(await answer.content.readline())
            assert (problem["status"], problem["code"]) == (409, "conflict")
            assert await answer.content.read() == b""


async def test_a_silent_or_endless_stream_is_cut(serve_api):
    async def silent():
        yield b"a\nb\n"
        await asyncio.sleep(5)

    async def endless():
        for _ in range(100):
            yield b"a\nb\n"
            await asyncio.sleep(0.001)

    for data, code in ((silent(), "request_timeout"), (endless(), "payload_too_large")):
        async with serve_api([BULK], CONTEXT, stream_idle_timeout_s=0.2, bulk_body_bytes_max=150) as call:
            headers = NDJSON | {"Authorization": "Bearer server"}
            async with call.session.post(call.base + "/things", data=data, headers=headers) as answer:
                lines = [json.loads(line) for line in (await answer.read()).splitlines()]
            assert lines[0] == {"first": 1, "rows": 2}
            assert lines[-1]["code"] == code
