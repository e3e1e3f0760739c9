"""Receipts over HTTP: batches, repeats, strangers, and who may speak for whom."""

import pytest
import pytest_asyncio

from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def sent(call, audience=None):
    body = {"audience": audience or {"type": "broadcast"}, "message": {"title": "Hello"}}
    answer = await call("POST", "/notifications", json=body)
    assert answer.status == 202, answer.body
    return answer.body["id"]


def opened(number, notification_id, **more):
    return {"id": f"e{number}", "notification_id": notification_id, "event": "opened"} | more


async def take(call, *receipts, key="server", **body):
    return await call("POST", "/receipts", key=key, json={"receipts": receipts, **body})


async def test_a_device_reports_of_itself_and_may_say_it_again(call):
    await call.world.register("phone")
    number = await sent(call)
    batch = [opened(at, number) for at in range(3)] + [opened(9, 2_000_000_000)]
    answer = await take(call, *batch, key="device", install_id="phone")
    assert (answer.status, answer.body) == (200, {"taken": 3, "repeated": 0, "unknown": 1})
    again = await take(call, *batch, opened(4, number), key="device", install_id="phone")
    assert again.body == {"taken": 1, "repeated": 3, "unknown": 1}


async def test_a_server_reports_of_many_installs(call):
    for name in ("a", "b", "c"):
        await call.world.register(name)
    number = await sent(call)
    rows = [opened(1, number, install_id=name) for name in ("a", "b", "never")]
    answer = await take(call, *rows, opened(2, number), install_id="c")
    assert answer.body == {"taken": 3, "repeated": 0, "unknown": 1}
    count = {"audience": {"type": "outcome", "notification_id": number, "is": "opened"}}
    assert (await call("POST", "/audience/count", json=count)).body["devices"] == 3


async def test_thousands_in_one_request(call):
    await call.world.register("busy")
    number = await sent(call)
    rows = [opened(at, number, at=1_700_000_000 + at) for at in range(5_000)]
    assert (await take(call, *rows, install_id="busy")).body == {"taken": 5_000, "repeated": 0, "unknown": 0}
    assert (await take(call, *rows, install_id="busy")).body == {"taken": 0, "repeated": 5_000, "unknown": 0}
    assert (await take(call, *rows, opened(9_999, number), install_id="busy")).status == 400


@pytest.mark.parametrize(
    ("key", "body", "pointers"),
    [
        ("device", {"receipts": [opened(1, 1)]}, ["/install_id"]),
        ("device", {"install_id": "a", "receipts": [opened(1, 1, install_id="b")]}, ["/receipts/0/install_id"]),
        ("server", {"receipts": [opened(1, 1, install_id="b"), opened(1, 1)]}, ["/receipts/1/install_id"]),
        ("server", {"receipts": []}, ["/receipts"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 0)]}, ["/receipts/0/notification_id"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 1, at=1_700_000_000_000)]}, ["/receipts/0/at"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 1, event="seen")]}, ["/receipts/0/event"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 1, id="")]}, ["/receipts/0/id"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 1, button="yes")]}, ["/receipts/0/button"]),
        (
            "server",
            {
                "install_id": "a",
                "receipts": [opened(1, 1, event="clicked", button="\0"), opened(1, 1, install_id="\0")],
            },
            ["/receipts/0/button", "/receipts/1/install_id"],
        ),
        ("server", {"install_id": "\0", "receipts": [opened(1, 1)]}, ["/install_id"]),
        ("server", {"install_id": "a", "receipts": [opened(1, 1, colour="red")]}, ["/receipts/0/colour"]),
    ],
)
async def test_each_fault_points_at_its_field(call, key, body, pointers):
    answer = await call("POST", "/receipts", key=key, json=body)
    assert (answer.status, answer.pointers) == (400, pointers)


async def test_another_apps_key_changes_nothing(call):
    await call.world.register("mine")
    number = await sent(call)
    theirs = await take(call, opened(1, number, install_id="mine"), key="other")
    never = await take(call, opened(1, 2_000_000_000, install_id="mine"), key="other")
    assert (
        (theirs.status, theirs.body) == (never.status, never.body) == (200, {"taken": 0, "repeated": 0, "unknown": 1})
    )
    count = {"audience": {"type": "outcome", "notification_id": number, "is": "opened"}}
    assert (await call("POST", "/audience/count", json=count)).body["devices"] == 0
    asked = [
        await call(
            "POST", "/audience/count", key="other", json={"audience": count["audience"] | {"notification_id": each}}
        )
        for each in (number, 2_000_000_000)
    ]
    assert asked[0].status == 400
    assert asked[0].body == asked[1].body
    assert asked[0].pointers == ["/audience/notification_id"]
