"""Follow-ups: what devices report of a send decides whom the next one reaches, across restarts, and for nobody else."""

import asyncio
import sys

import orjson
import pytest
import pytest_asyncio

from pushd.daemon import Daemon
from pushd.simulator.faults import Answer
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def own():
    async with running() as world:
        yield world


async def restart(world) -> None:
    await world.daemon.stop()
    world.daemon = Daemon(world.daemon.config, environ={})
    await world.daemon.start()


def outcome(notification_id, what, **more):
    return {"type": "outcome", "notification_id": notification_id, "is": what, **more}


async def report(tenant, install_id, *receipts):
    """What a device says of itself, with the key that ships in its app."""
    return await tenant.device.ok("POST", "/receipts", {"install_id": install_id, "receipts": list(receipts)})


def receipt(number, event="opened", **more):
    return {"id": f"{event}-{number}", "notification_id": number, "event": event} | more


@pytest.mark.parametrize("count", [5, 80], ids=["small", "large"])
async def test_a_follow_up_reaches_exactly_those_who_did_not_open(own, count):
    tenant = await own.tenant()
    tokens = {f"phone-{at}": (await tenant.register(f"phone-{at}"))["token"] for at in range(count)}
    first = (await tenant.sent())["id"]
    assert await report(tenant, "phone-0", receipt(first)) == {"taken": 1, "repeated": 0, "unknown": 0}
    clicked = receipt(first, "clicked", button="later", at=1_795_000_000)
    assert (await report(tenant, "phone-1", clicked, receipt(first, "delivered")))["taken"] == 2
    await report(tenant, "phone-2", receipt(first, "delivered"), receipt(first, "dismissed"))

    await restart(own)

    again = await report(tenant, "phone-0", receipt(first), receipt(2_000_000_000))
    assert again == {"taken": 0, "repeated": 1, "unknown": 1}
    view = await tenant.sent(outcome(first, "not_opened"))
    assert view["counts"]["accepted"] == count - 2
    arrived = {name: tenant.arrived(token) for name, token in tokens.items()}
    assert arrived == {name: 1 if name in ("phone-0", "phone-1") else 2 for name in tokens}
    thanks = await tenant.sent(outcome(first, "clicked", buttons=["later"]))
    assert (thanks["counts"]["accepted"], tenant.arrived(tokens["phone-1"])) == (1, 2)
    # Who was sent the follow-up opens it: nobody is left but those who opened neither.
    await report(tenant, "phone-2", receipt(view["id"]))
    rest = {"type": "and", "of": [outcome(view["id"], "not_opened"), outcome(first, "not_opened")]}
    assert (await tenant.server.ok("POST", "/audience/count", {"audience": rest}))["devices"] == count - 3
    lately = {"type": "opened", "is": True, "within_days": 1}
    assert (await tenant.server.ok("POST", "/audience/count", {"audience": lately}))["devices"] == 3


async def test_another_message_for_those_whose_first_one_failed(tenant):
    good, empty, odd = [await tenant.register(name) for name in ("good", "empty", "odd")]
    tenant.fault(Answer(reason="PayloadEmpty"), tokens=[empty["token"]], count=1)
    tenant.fault(Answer(reason="BadCollapseId"), tokens=[odd["token"]], count=1)
    first = await tenant.sent()
    assert {row["reason"] for row in first["reasons"]} == {"accepted", "PayloadEmpty", "BadCollapseId"}
    again = await tenant.sent(outcome(first["id"], "failed", reasons=["PayloadEmpty"]))
    assert again["counts"]["accepted"] == again["counts"]["targeted"] == 1
    assert [tenant.arrived(each["token"]) for each in (good, empty, odd)] == [1, 1, 0]
    assert (await tenant.sent(outcome(first["id"], "failed")))["counts"]["accepted"] == 2
    assert (await tenant.sent(outcome(first["id"], "accepted")))["counts"]["accepted"] == 1
    assert [tenant.arrived(each["token"]) for each in (good, empty, odd)] == [2, 2, 1]


async def test_another_tenant_learns_and_changes_nothing(world, tenant):
    other = await world.tenant()
    device = await tenant.register("phone")
    await other.register("phone")
    number = (await tenant.sent())["id"]
    await report(tenant, "phone", receipt(number))
    theirs = await report(other, "phone", receipt(number), receipt(2_000_000_000))
    assert theirs == {"taken": 0, "repeated": 0, "unknown": 2}
    asked = []
    for each in (number, 2_000_000_000):
        for path, more in (
            ("/audience/count", {}),
            ("/audience/sample", {}),
            ("/audience/export", {}),
            ("/notifications", {"message": {"title": "x"}}),
        ):
            answer = await other.server("POST", path, json={"audience": outcome(each, "targeted"), **more})
            assert (answer.status, answer.pointers) == (400, ["/audience/notification_id"])
            asked.append(answer.body)
    assert asked[:4] == asked[4:]
    lately = {"type": "opened", "is": True, "within_days": 1}
    assert (await other.server.ok("POST", "/audience/count", {"audience": lately}))["devices"] == 0
    assert (await tenant.server.ok("POST", "/audience/count", {"audience": lately}))["devices"] == 1
    named = {"audience": {"type": "installs", "ids": ["phone"]}, "message": {"title": "x"}}
    assert (await other.server.ok("POST", "/notifications", named))["targeted"] == 1
    assert tenant.arrived(device["token"]) == 1


async def test_the_command_line_counts_samples_and_exports(world, tenant, tmp_path):
    for at in range(7):
        await tenant.register(f"phone-{at}", user_id=f"user-{at % 2}", tags=["news"] if at < 4 else [])
    made = await tenant.admin.ok("POST", "/keys", {"role": "server"})
    key = tmp_path / "key"
    key.write_text(made["secret"])

    async def pushd(*arguments):
        options = ["--key-file", str(key), "--url", f"http://127.0.0.1:{world.daemon.http.port}"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushd", "audience", *arguments, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out, err.decode()

    file = tmp_path / "devices.ndjson"
    counted, sampled, exported, users, refused = await asyncio.gather(
        pushd("count", "--tag", "news", "--json"),
        pushd("sample", "--broadcast", "--size", "3", "--seed", "5", "--json"),
        pushd("export", "--tag", "news", "--output", str(file)),
        pushd("export", "--broadcast", "--users"),
        pushd("export", "--audience", orjson.dumps(outcome(2_000_000_000, "opened")).decode()),
    )
    assert orjson.loads(counted[1])["devices"] == 4
    assert (orjson.loads(sampled[1])["seed"], len(orjson.loads(sampled[1])["items"])) == (5, 3)
    assert exported == (0, b"", "")
    names = [orjson.loads(line)["install_id"] for line in file.read_bytes().splitlines()]
    assert names == [f"phone-{at}" for at in range(4)]
    assert {orjson.loads(line)["external_id"] for line in users[1].splitlines()} == {"user-0", "user-1"}
    assert refused[0] == 1
    assert "/audience/notification_id: names no notification of the app" in refused[2]
