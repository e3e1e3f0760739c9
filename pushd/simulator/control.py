"""The simulator's HTTP interface on loopback: asks what arrived, and scripts faults."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import msgspec
import orjson
from aiohttp import web

from pushd.clock import Clock
from pushd.errors import ConfigError, InvalidRequestError, NotFoundError, PushdError
from pushd.simulator.faults import Fault, FaultBook, Scripted
from pushd.simulator.record import Push, Record

HOST = "127.0.0.1"
BODY_MAX = 8_388_608
"""Faults that name many tokens are large."""
LIMIT_DEFAULT, LIMIT_MAX = 100, 10_000
SHUTDOWN_TIMEOUT_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Others(Protocol):
    """What an APNs simulator starts, stops and answers for beside itself."""

    @property
    def faults(self) -> Mapping[str, FaultBook]:
        """By vendor, what scripts it."""

    async def start(self) -> None:
        """Listens."""

    async def stop(self) -> None:
        """Closes listeners and connections."""

    def listing(self) -> dict[str, dict[str, Any]]:
        """By vendor, where it listens and what it knows."""

    def environ(self) -> dict[str, str]:
        """The settings with which a daemon sends here, as environment variables."""

    def counts(self) -> dict[str, dict[str, Any]]:
        """By vendor, what arrived."""

    def script_mail(self, body: bytes) -> None:
        """Has the relay reply to a recipient's mails so; InvalidRequestError for a request that is none."""

    def subscribe(self, body: bytes) -> list[dict[str, Any]]:
        """New subscriptions of browsers that are played here; InvalidRequestError for a request that is none."""


class ControlServer:
    """Serves the record and the faults of one simulator."""

    def __init__(
        self,
        record: Record,
        faults: FaultBook,
        clock: Clock,
        others: Others | None = None,
        *,
        calls: Mapping[str, int] | None = None,
    ) -> None:
        self._record = record
        self._calls = {} if calls is None else calls
        self._faults = faults
        self._clock = clock
        self._others = others
        self._started_at = clock.now()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """The port that it listens on."""
        app = web.Application(middlewares=[_problems], client_max_size=BODY_MAX)
        app.add_routes(
            [
                web.get("/summary", self._summary),
                web.get("/pushes", self._pushes),
                web.get("/connections", self._connections),
                web.get("/violations", self._violations),
                web.get("/duplicates", self._duplicates),
                web.get("/faults", self._list_faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.delete("/faults/{id}", self._remove_fault),
                web.post("/reset", self._reset),
            ]
        )
        if self._others is not None:
            app.add_routes(
                [
                    web.get("/vendors", self._vendors),
                    web.post("/vendors/{name}/faults", self._add_fault),
                    web.post("/vendors/webpush/subscriptions", self._subscribe),
                    web.post("/vendors/email/scripts", self._script_mail),
                ]
            )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, port).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {HOST}:{port}: {error.strerror}") from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Ends when it no longer listens."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _summary(self, _request: web.Request) -> web.Response:
        record = self._record
        return _json(
            {
                "uptime_s": round(self._clock.now() - self._started_at, 3),
                "pushes": record.total,
                "accepted": record.statuses[200],
                "statuses": {str(status): count for status, count in sorted(record.statuses.items())},
                "reasons": dict(record.reasons),
                "push_types": dict(record.push_types),
                "topics": dict(record.topics),
                "accepted_topics": dict(record.accepted_topics),
                "unprocessed": dict(record.unprocessed),
                "connections": record.connections_total,
                "open_connections": sum(link.closed_ms is None for link in record.connections),
                "violations": dict(record.violation_kinds),
                "faults": len(self._faults.listed()),
                "channel_management": dict(self._calls),
            }
        )

    async def _pushes(self, request: web.Request) -> web.Response:
        token = request.query.get("token")
        limit = _number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
        found = self._record.pushes(token, since=_number(request, "since", 0, 2**62), limit=limit)
        answer: dict[str, Any] = {"pushes": [_push(push) for push in found]}
        if token is not None:
            answer["count"] = self._record.count(token)
        if found:
            answer["last"] = found[-1].number
        return _json(answer)

    async def _connections(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
        newest = list(self._record.connections)[-limit:]
        return _json({"total": self._record.connections_total, "connections": [asdict(link) for link in newest]})

    async def _violations(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
        newest = list(self._record.violations)[-limit:]
        kinds = dict(self._record.violation_kinds)
        return _json({"kinds": kinds, "violations": [violation._asdict() for violation in newest]})

    async def _duplicates(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
        record = self._record
        return _json({"tokens": record.duplicate_tokens(limit), "apns_ids": record.duplicate_ids(limit)})

    async def _list_faults(self, _request: web.Request) -> web.Response:
        return _json({"faults": [_fault(scripted) for scripted in self._faults.listed()]})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
        except msgspec.DecodeError as error:
            raise InvalidRequestError(str(error)) from error
        name = request.match_info.get("name")
        book = self._faults if name is None or self._others is None else self._others.faults.get(name)
        if book is None:
            raise NotFoundError(f"no vendor {name}")
        return _json({"id": book.add(fault)}, status=201)

    async def _vendors(self, _request: web.Request) -> web.Response:
        assert self._others is not None
        return _json(self._others.counts())

    async def _subscribe(self, request: web.Request) -> web.Response:
        assert self._others is not None
        return _json(self._others.subscribe(await request.read()), status=201)

    async def _script_mail(self, request: web.Request) -> web.Response:
        assert self._others is not None
        self._others.script_mail(await request.read())
        return _json({}, status=201)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return _json({})

    async def _remove_fault(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not name.isdecimal() or not self._faults.remove(int(name)):
            raise NotFoundError(f"no fault {name}")
        return _json({})

    async def _reset(self, _request: web.Request) -> web.Response:
        self._record.reset()
        self._faults.clear()
        return _json({})


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PushdError as error:
        return _json({"error": error.code, "detail": error.detail}, status=error.status)
    except web.HTTPException as error:
        return _json({"error": "http", "detail": error.reason}, status=error.status)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) > most:
        raise InvalidRequestError(f"{name} must be a whole number from 0 to {most}")
    return int(text)


def _push(push: Push) -> dict[str, Any]:
    """A push as JSON; a payload that is no JSON is given as base64."""
    shown = push._asdict()
    if push.payload is not None:
        try:
            shown["payload"] = orjson.loads(push.payload)
        except orjson.JSONDecodeError:
            shown["payload"] = None
            shown["payload_base64"] = base64.b64encode(push.payload).decode()
    return shown


def _fault(scripted: Scripted) -> dict[str, Any]:
    return {
        "id": scripted.id,
        "matched": scripted.matched,
        "struck": scripted.struck,
        "fault": msgspec.to_builtins(scripted.fault),
    }
