"""Schemathesis against every call of the five dialects of a daemon: `python -m tests.faults.dialects --minutes 10`.

No answer may be a 5xx, none may be late, and the daemon's memory may grow by what it was made to store and no more.
"""

import asyncio
import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import orjson
import psutil

from pushd.dialects.mount import DIALECTS
from tests.faults.children import environment
from tests.faults.dialect_schema import document
from tests.faults.report import arguments, tell
from tests.faults.world import SMALL, world

ANSWER_S = 10
"""Longer than any answer may take, on whatever machine."""
SETTINGS = SMALL | {
    "dialects.gravitec_plain_http": "true",
    "dialects.followers_per_minute_max": 1_000_000,
    "dialects.follower_calls_per_minute_max": 1_000_000,
    "telemetry.log_level": "info",
}
APP = {"client_sends_per_minute": 10_000, "client_user_search": True, "default_bundle": "com.example.orchard"}
TEMPLATE = {"name": "offers", "uid": "offers", "message": {"title": "Hello", "body": "There"}}
PASSWORD = "n0t-guessed"
IDS = (1, 2, 7, "anna", "user-1", "install-1", "news", "message:x", "offers")
OF_DEVICES = re.compile(r"/v1/(app-installs|users|channels|web)")
"""Of Kumulos's paths those with the secret that ships inside apps."""
ENDING = re.compile(r"/(session|login)\b")
"""Of ConnectyCube's paths those whose DELETE ends a session: with that of somebody else."""
SAMPLE_S = 2.0
GROWTH_MAX = 0.35
"""From a quarter of the run on: what was stored meanwhile is in memory, too."""


@dataclass(frozen=True)
class Known:
    """What the calls of a dialect are made with."""

    headers: Callable
    values: dict
    """What stands in paths."""
    fields: dict
    """What stands in bodies."""
    ids: tuple = IDS


async def attack(minutes, seed):
    """The figures of a run of so many minutes."""
    begun = perf_counter()
    async with world(20, seed=seed, settings=SETTINGS) as here:
        schema, resident = here.place / "dialects.json", []
        schema.write_text(json.dumps(document(DIALECTS, await keys(here))))
        watching = asyncio.create_task(watch(here.daemon.pid, resident))
        status, said = await schemathesis(here, schema, round(minutes * 60), seed)
        watching.cancel()
        assert here.daemon.running, here.daemon.tail()
        assert not here.daemon.broken_parts(), here.daemon.broken_parts()[0]
        answers = answered(here.daemon.log)
        failed = [each for each in answers if each["status"] >= 500 or each["status"] == 499]
        assert not failed, f"{Counter((each['route'], each['status']) for each in failed)}\n{here.daemon.tail(80)}"
        assert status == 0, said
        await here.single()  # it is as well as before
        early = resident[len(resident) // 4]
        paths = json.loads(schema.read_text())["paths"]
        return {
            "seed": seed,
            "minutes": minutes,
            "calls": sum(map(len, paths.values())),
            "calls_that_succeeded": len({(each["method"], each["route"]) for each in answers if each["status"] < 300}),
            "requests": len(answers),
            "by_status": {
                str(status): count for status, count in sorted(Counter(s["status"] for s in answers).items())
            },
            "slowest": max(answers, key=lambda each: each["ms"])["route"],
            "slowest_ms": max(each["ms"] for each in answers),
            "resident_mb_after_a_quarter": round(early / 2**20, 1),
            "resident_mb_at_the_end": round(resident[-1] / 2**20, 1),
            "seconds": round(perf_counter() - begun, 1),
        }


async def keys(here):
    """By dialect, what its calls are made with: an app with keys of all five, a user with sessions, and a follower."""
    await here.call("PATCH", f"/apps/{here.app_id}", {"settings": APP})
    await here.call("POST", "/templates", TEMPLATE)
    await here.call("POST", "/channels", {"uuid": "news"})
    server, device = await key(here, "kumulos"), await key(here, "kumulos", role="device")
    gravitec, appenate = await key(here, "gravitec"), await key(here, "appenate")
    backendless = await key(here, "backendless")
    cube = await key(here, "connectycube", role="device")
    mine, others = [await session(here, cube, login) for login in ("hostile", "harmless")]

    def kumulos(call):
        ours = OF_DEVICES.match(call.path) and not call.path.startswith("/v1/channels/")
        return {"Authorization": basic(device if ours else server)}

    def connectycube(call):
        if call.method == "POST" and call.path.startswith(("/session", "/users")):
            return {"CB-AuthKey": cube["key"]["identity"]}
        return {"CB-Token": others if call.method == "DELETE" and ENDING.match(call.path) else mine}

    company, app = appenate["key"]["identity"], {name: backendless[name] for name in ("key", "secret")}
    return {
        "kumulos": Known(kumulos, {"key": server["key"]["identity"], "appId": here.app_id}, {}),
        "connectycube": Known(connectycube, {}, {"auth_key": cube["key"]["identity"]}),
        "gravitec": Known(
            lambda _: {"Authorization": basic(gravitec)},
            {"appKey": gravitec["key"]["identity"]},
            {"appKey": gravitec["key"]["identity"]},
        ),
        "appenate": Known(lambda _: {}, {}, {"CompanyId": company, "IntegrationKey": appenate["secret"]}),
        "backendless": Known(lambda _: {}, {"app_id": app["key"]["identity"], "api_key": app["secret"]}, {}),
    }


async def key(here, dialect, role="server"):
    """A key of a dialect, both secrets of Kumulos under one name."""
    body = {"dialect": dialect, "role": role}
    if dialect == "kumulos":
        body["identity"] = "hostile-key"
    return await here.call("POST", "/vendor-keys", body)


async def session(here, made, login):
    """The token of a session of a user who signs up by it."""
    body = {"auth_key": made["key"]["identity"], "user": {"login": login, "password": PASSWORD}}
    async with here.session.post(f"{here.daemon.url}/session", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return (await answer.json())["session"]["token"]


def basic(made):
    pair = f"{made['key']['identity']}:{made['secret']}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


async def watch(pid, resident):
    while True:
        resident.append(psutil.Process(pid).memory_info().rss)
        await asyncio.sleep(SAMPLE_S)


async def schemathesis(here, schema, seconds, seed):
    """The exit status of a run, and the end of what it said."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "fuzz", str(schema)),
        *(
            "--url",
            here.daemon.url,
            "--max-time",
            str(seconds),
            "--seed",
            str(seed),
            "--request-timeout",
            str(ANSWER_S),
        ),
        *("--checks", "not_a_server_error", "--continue-on-failure", "--workers", "1", "--generation-database", "none"),
        *("--generation-allow-x00", "true"),
        *("--suppress-health-check", "all", "--warnings", "off"),
        cwd=here.place,
        env=environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), seconds + 120)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return process.returncode, out.decode(errors="replace")[-8_000:]


def answered(log):
    """What the daemon's log says of every request of a dialect."""
    found = []
    for line in log.read_bytes().splitlines():
        with suppress(orjson.JSONDecodeError):
            said = orjson.loads(line)
            if said.get("event") == "request" and not said["route"].startswith("/pushd/"):
                found.append(said)
    return found


def main():
    given = arguments("dialects", __doc__)
    given.add_argument("--minutes", type=float, default=10.0)
    given = given.parse_args()
    target = f"no 5xx, no answer after {ANSWER_S} s, memory at the end at most {GROWTH_MAX:.0%} above that of a quarter"

    def kept(figures):
        return figures["resident_mb_at_the_end"] <= figures["resident_mb_after_a_quarter"] * (1 + GROWTH_MAX)

    return tell("dialects", given, target, lambda seed: attack(given.minutes, seed), kept)


if __name__ == "__main__":
    sys.exit(main())
