"""Sends of `bench ingest` in the words of the hosted services: how each names a user, and who it says it is."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import orjson

from bench import measure
from bench.ingest_drive import Cpu, Drive, Pushes
from bench.ingest_world import World

CONNECTIONS = 64
TARGET = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """How a send is said."""

    path: str
    headers: dict[str, str]
    status: int
    user: Callable[[int], Any]
    """The user of that number, as bodies name one."""
    body: Callable[[Any, int], dict[str, Any]]
    """A body to a user, by a number of its own."""
    native: Callable[[Any, int], dict[str, Any]]
    """The body of the same send natively: the same audience, and a message that says the same."""


def natively(world: World, speech: Speech) -> Speech:
    """The same sends through the native API."""
    return replace(
        speech,
        path="/pushd/v1/notifications",
        headers={"Authorization": f"Bearer {world.key}"},
        status=202,
        body=speech.native,
    )


async def through(world: World, speech: Speech, numbers: Sequence[int]) -> dict[str, float]:
    """Sends in one speech, closed loop on 64 connections; CPU up to the last push."""
    bodies = [orjson.dumps(speech.body(speech.user(number * 7919 % world.users), number)) for number in numbers]
    with Pushes(world.far) as pushes:
        cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid], driver=[os.getpid()])
        drive = Drive(world.port, bodies, "", speech.status, speech.path, speech.headers)
        begun = time.time()
        await drive.closed_loop(CONNECTIONS)
        answered = await pushes.wait_for(len(bodies))
        return {
            "per_s": len(bodies) / drive.seconds,
            "out_per_s": len(bodies) / (max(answered.values()) - begun),
            **drive.percentiles(),
            **cpu.per(len(bodies)),
        }


def compared(dialect: str, natives: list[dict[str, float]], others: list[dict[str, float]]) -> dict[str, Any]:
    """The figures: the ratio is the dialect's sends per second over native ones, each side's median."""
    keys = ("per_s", "out_per_s", "p50_ms", "p99_ms", "daemon_us", "postgresql_us", "far_side_us", "driver_us")
    rows = {
        what: {key: measure.median([run[key] for run in runs]) for key in keys}
        for what, runs in (("native", natives), (dialect, others))
    }
    return {
        "ratio": rows[dialect]["per_s"] / rows["native"]["per_s"],
        "target": f"of native sends per second; the target is at least {TARGET}",
        "table": [{"what": what, **figures} for what, figures in rows.items()],
        **{f"{what}_{key}": value for what, figures in rows.items() for key, value in figures.items()},
    }


async def _key(world: World, dialect: str, **wanted: str) -> tuple[str, str]:
    """Identity and secret of a new key."""
    headers = {"Authorization": f"Bearer {world.admin}", "Pushd-App": str(world.app_id)}
    url = f"http://127.0.0.1:{world.port}/pushd/v1/vendor-keys"
    body = {"dialect": dialect, "name": "bench", **wanted}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert answer.status == 201, await answer.text()
        made = await answer.json()
    return made["key"]["identity"], made["secret"]


def _users(user: str) -> dict[str, Any]:
    return {"type": "users", "ids": [user]}


def _said(number: int) -> dict[str, Any]:
    return {"title": "Your code", "body": f"It is {number:06d}"}


def _basic(identity: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{identity}:{secret}".encode()).decode()}


async def _appenate(world: World) -> Speech:
    company, integration_key = await _key(world, "appenate")
    return Speech(
        path="/api/v2/push?format=json",
        headers={},
        status=200,
        user=lambda number: f"user-{number}",
        body=lambda user, number: {
            "CompanyId": int(company),
            "IntegrationKey": integration_key,
            "UserExternalId": user,
            "Title": "Your code",
            "Body": f"It is {number:06d}",
        },
        native=lambda user, number: {"audience": _users(user), "message": _said(number)},
    )


async def _connectycube(world: World) -> Speech:
    identity, _ = await _key(world, "connectycube", role="server")
    url = f"http://127.0.0.1:{world.port}/session"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"application_id": world.app_id, "auth_key": identity}) as answer,
    ):
        assert answer.status == 201, await answer.text()
        token = (await answer.json())["session"]["token"]
    return Speech(
        path="/events",
        headers={"CB-Token": token},
        status=201,
        user=lambda number: f"user-{number}",
        body=lambda user, number: {
            "event": {
                "notification_type": "push",
                "environment": "production",
                "push_type": "apns",
                "external_user": {"ids": user},
                "message": "payload="
                + base64.b64encode(
                    orjson.dumps({"aps": {"alert": {"title": "Your code", "body": f"It is {number:06d}"}}, "n": number})
                ).decode(),
            }
        },
        native=lambda user, number: {
            "audience": {
                "type": "and",
                "of": [_users(user), {"type": "environment", "is": "production"}, {"type": "kind", "any": ["apns"]}],
            },
            "message": {**_said(number), "data": {"n": number}},
        },
    )


async def _gravitec(world: World) -> Speech:
    return Speech(
        path="/api/v3/push",
        headers=_basic(*await _key(world, "gravitec")),
        status=200,
        user=lambda number: f"install-{number}",
        body=lambda user, number: {
            "payload": {
                "title": "Your code",
                "message": f"It is {number:06d}",
                "redirect_url": "https://example.com/code",
            },
            "audience": {"tokens": [user]},
        },
        native=lambda user, number: {
            "audience": {"type": "installs", "ids": [user]},
            "message": {**_said(number), "url": "https://example.com/code"},
        },
    )


async def _kumulos(world: World) -> Speech:
    return Speech(
        path="/v2/notifications",
        headers=_basic(*await _key(world, "kumulos", role="server")),
        status=202,
        user=lambda number: f"user-{number}",
        body=lambda user, number: {
            "target": {"userIds": [user]},
            "content": {"title": "Your code", "message": f"It is {number:06d}", "data": {"n": number}},
        },
        native=lambda user, number: {"audience": _users(user), "message": {**_said(number), "data": {"n": number}}},
    )


async def _backendless(world: World) -> Speech:
    app, key = await _key(world, "backendless", role="server")
    return Speech(
        path=f"/{app}/{key}/messaging/default",
        headers={},
        status=200,
        user=lambda number: f"install-{number}",
        body=lambda user, number: {
            "message": f"It is {number:06d}",
            "headers": {"ios-alert-title": "Your code"},
            "publishPolicy": "PUSH",
            "pushSinglecast": [user],
        },
        native=lambda user, number: {"audience": {"type": "installs", "ids": [user]}, "message": _said(number)},
    )


SPEECHES: dict[str, Callable[[World], Awaitable[Speech]]] = {
    "appenate": _appenate,
    "backendless": _backendless,
    "connectycube": _connectycube,
    "gravitec": _gravitec,
    "kumulos": _kumulos,
}
