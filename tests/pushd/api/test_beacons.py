"""Beacons over HTTP: reports of installs without an API key, each event once; limits of beacons and device keys."""

import msgspec
import pytest
import pytest_asyncio

from pushd.config.receipts import ReceiptsConfig
from pushd.model.receipt import Event
from pushd.reports.beacons import sign
from pushd.reports.limits import ReceiptLimits
from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def fresh(call):
    """Limits as they are after a start."""
    limited(call)


def limited(call, **config):
    made = ReceiptLimits(ReceiptsConfig(**config))
    object.__setattr__(call.world.context, "limits", made)  # the context is frozen


async def sent(call):
    answer = await call(
        "POST", "/notifications", json={"audience": {"type": "broadcast"}, "message": {"title": "Hello"}}
    )
    assert answer.status == 202, answer.body
    return answer.body["id"]


async def key_of(call, install_id, key="device"):
    answer = await call("POST", "/beacon-keys", key=key, json={"install_id": install_id})
    assert (answer.status, answer.body["install_id"]) == (200, install_id)
    assert answer.body["path"].startswith("/pushd/beacons/")
    return answer.body


def beacon(key, number, event="opened", button=None, **more):
    body = {
        "install_id": key["install_id"],
        "notification_id": number,
        "event": event,
        "signature": sign(key["key"], number, Event(event), button),
    }
    return body | ({"button": button} if button else {}) | more


async def post(call, path, *beacons, method="POST", data=None, content_type="text/plain;charset=UTF-8"):
    body = data if data is not None else msgspec.json.encode({"beacons": beacons})
    url = call.base.removesuffix("/pushd/v1") + path
    async with call.session.request(method, url, data=body, headers={"Content-Type": content_type}) as answer:
        return answer.status, answer.headers, await answer.json(content_type=None) if answer.status != 204 else None


async def report(call, number):
    return (await call("GET", f"/notifications/{number}/report")).body


async def test_an_install_reports_with_its_signature_and_counts_once(call):
    await call.world.register("web-1")
    number, key = await sent(call), await key_of(call, "web-1")
    status, headers, counts = await post(call, key["path"], beacon(key, number), beacon(key, number, "received"))
    assert (status, counts) == (200, {"taken": 2, "repeated": 0, "unknown": 0})
    assert headers["Access-Control-Allow-Origin"] == "*"
    again = await post(call, key["path"], beacon(key, number, at=1_800_000_000), beacon(key, number, "clicked", "yes"))
    assert again[2] == {"taken": 1, "repeated": 1, "unknown": 0}
    assert (await post(call, key["path"], beacon(key, number, "clicked", "no")))[2]["taken"] == 1
    told = await report(call, number)
    assert told["opens"] == {"total": 3, "installs": 1, "users": 0}
    assert {each["button"]: each["total"] for each in told["buttons"]} == {"yes": 1, "no": 1}


async def test_a_page_of_any_origin_may_ask_first(call):
    status, headers, _ = await post(call, "/pushd/beacons/1", method="OPTIONS", data=b"")
    assert (status, headers["Access-Control-Allow-Methods"]) == (204, "POST")
    assert headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert (await post(call, "/pushd/beacons/x", data=b"{}"))[0] == 404


async def test_what_is_signed_by_another_is_refused_as_a_whole(call):
    await call.world.register("web-2")
    number, key = await sent(call), await key_of(call, "web-2")
    stranger = await key_of(call, "web-2", key="other")
    forged = {**beacon(key, number), "event": "read"}
    for wrong in (
        beacon(stranger, number),
        forged,
        beacon(key, number, button="x", event="clicked", install_id="web-1"),
    ):
        status, _, problem = await post(call, key["path"], beacon(key, number), wrong)
        assert (status, problem["code"]) == (401, "unauthorized")
    assert (await report(call, number))["opens"]["total"] == 0
    # His own app's path takes his signature, and knows neither install nor notification.
    assert (await post(call, stranger["path"], beacon(stranger, number)))[2] == {
        "taken": 0,
        "repeated": 0,
        "unknown": 1,
    }


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"button": "x"}, "/beacons/0/button"),
        ({"install_id": "a\0"}, "/beacons/0/install_id"),
        ({"event": "seen"}, "/beacons/0/event"),
        ({"colour": "red"}, "/beacons/0/colour"),
        ({"at": 1_800_000_000_000}, "/beacons/0/at"),
    ],
)
async def test_each_fault_points_at_its_field(call, change, pointer):
    key = await key_of(call, "web-3")
    status, headers, problem = await post(call, key["path"], beacon(key, 1) | change)
    assert (headers["Access-Control-Allow-Origin"], headers["Access-Control-Expose-Headers"]) == ("*", "Retry-After")
    assert (status, [each["pointer"] for each in problem["errors"]]) == (400, [pointer])


async def test_guessing_is_braked_and_so_is_flooding(call):
    limited(call, bad_signatures_per_minute_max=3, beacons_per_minute_max=1_000)
    await call.world.register("web-4")
    number, key = await sent(call), await key_of(call, "web-4")
    for _ in range(4):
        assert (await post(call, key["path"], {**beacon(key, number), "signature": "x" * 43}))[0] == 401
    status, headers, _ = await post(call, key["path"], beacon(key, number))
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    limited(call, beacons_per_minute_max=10)
    statuses = [(await post(call, key["path"], beacon(key, number)))[0] for _ in range(12)]
    assert statuses == [200] * 11 + [429]  # one more than fit at once, for a little leaks out meanwhile
    assert (await post(call, key["path"], data=b"x" * 70_000))[0] == 413


async def test_an_install_may_fill_no_disk(call):
    limited(call, install_per_hour_max=50)
    await call.world.register("busy")
    number = await sent(call)

    def batch(first):
        rows = [{"id": f"e{first + at}", "notification_id": number, "event": "read"} for at in range(40)]
        return {"install_id": "busy", "receipts": rows}

    assert (await call("POST", "/receipts", key="device", json=batch(0))).body["taken"] == 40
    # What comes again, and what is unknown, is kept nowhere and counts for nothing.
    for _ in range(3):
        assert (await call("POST", "/receipts", key="device", json=batch(0))).body["repeated"] == 40
    assert (await call("POST", "/receipts", key="device", json=batch(40))).body["taken"] == 40
    refused = await call("POST", "/receipts", key="device", json=batch(80))
    assert (refused.status, refused.body["code"]) == (429, "too_many_requests")
    assert int(refused.headers["Retry-After"]) > 60
    beaconed = await key_of(call, "busy")
    assert (await post(call, beaconed["path"], beacon(beaconed, number)))[0] == 429
    assert (await call("POST", "/receipts", json=batch(80))).body["taken"] == 40  # a server key is trusted


async def test_a_device_key_has_a_rate(call):
    limited(call, key_per_s_max=10)
    await call.world.register("fast")
    number = await sent(call)
    rows = [{"id": f"e{at}", "notification_id": number, "event": "read"} for at in range(100)]
    body = {"install_id": "fast", "receipts": rows}
    statuses = [(await call("POST", "/receipts", key="device", json=body)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_an_app_that_is_gone_takes_nothing(call):
    made = await call.world.context.store.apps.create("short-lived", call.world.app.settings)
    key = call.world.context.beacons.key(made.id, "web")
    signed = {"install_id": "web", "key": key}
    path = f"/pushd/beacons/{made.id}"
    assert (await post(call, path, beacon(signed, 1)))[2] == {"taken": 0, "repeated": 0, "unknown": 1}
    assert await call.world.context.store.apps.delete(made.id)
    status, _, problem = await post(call, path, beacon(signed, 1))
    assert (status, problem["detail"]) == (404, "There is no such app")
