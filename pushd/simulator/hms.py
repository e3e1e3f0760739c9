"""The local HMS Push Kit: its OAuth endpoint and its sends on one TLS listener, as strict as Huawei's documents."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from pushd.clock import Clock, SystemClock
from pushd.errors import ConfigError
from pushd.model.device import Environment
from pushd.service import Service
from pushd.simulator.faults import Answer, Close, Fault, FaultBook, Goaway, Silence
from pushd.simulator.hms_rules import Refusal, check_message
from pushd.simulator.identity import Identity

BODY_MAX = 4_194_304
SHUTDOWN_TIMEOUT_S = 0.2
REQUESTS_KEPT = 10_000

HTML = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"


class HmsSimulator(Service):
    """A local Huawei. `clients` are the apps it knows, `unregistered` the tokens it calls illegal."""

    def __init__(
        self,
        identity: Identity,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        clock: Clock | None = None,
        token_lifetime_s: float = 3_600.0,
    ) -> None:
        super().__init__()
        self.host, self.port = host, port
        self.clients = {"100000001": "simulated+secret/="}
        """Secrets by client id."""
        self.projects: dict[str, str] = {}
        """Client ids by project id."""
        self.unregistered: set[str] = set()
        self.faults = FaultBook(0)
        self.arrived: Counter[str] = Counter()
        """Accepted pushes by token."""
        self.requests: list[dict[str, Any]] = []
        """The newest bodies that were taken."""
        self.codes: Counter[str] = Counter()
        self.violations: list[str] = []
        """Requests that no correct client makes."""
        self.logins = 0
        self.token_lifetime_s = token_lifetime_s
        self._identity = identity
        self._clock = clock or SystemClock()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens; `port` is then the one it got."""
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_post("/oauth2/v3/token", self._token)
        app.router.add_post("/{version:v1|v2}/{id:[0-9]+}/messages:send", self._send)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._identity.tls(("http/1.1",)))
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes listener and connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await super().stop()

    def fault(self, action: Any, *tokens: str, **where: Any) -> int:
        """Scripts a fault for sends to these tokens, or to any; its id."""
        return self.faults.add(Fault(action=action, tokens=list(tokens), **where))

    def revoke(self) -> None:
        """Makes every access token that was handed out invalid."""
        self._tokens.clear()

    async def _token(self, request: web.Request) -> web.Response:
        """RFC 6749 section 4.4, with Huawei's numbers for errors."""
        self.logins += 1
        if request.content_type != "application/x-www-form-urlencoded":
            self.violations.append("the token endpoint takes forms only")
        form = dict(parse_qsl((await request.read()).decode("latin-1"), keep_blank_values=True, encoding="utf-8"))
        if form.get("grant_type") != "client_credentials":
            return _json({"error": 1101, "sub_error": 20001, "error_description": "invalid grant"}, 400)
        client = form.get("client_id", "")
        if self.clients.get(client) is None or self.clients[client] != form.get("client_secret"):
            return _json({"error": "invalid_client", "error_description": "invalid client"}, 401)
        token = "IwEB/" + secrets.token_urlsafe(24)
        self._tokens[token] = client, self._clock.now() + self.token_lifetime_s
        return _json({"access_token": token, "expires_in": int(self.token_lifetime_s), "token_type": "Bearer"})

    async def _send(self, request: web.Request) -> web.StreamResponse:
        client = request.match_info["id"]
        if request.match_info["version"] == "v2":
            client = self.projects.get(client, "")
        if client not in self.clients:
            return web.Response(status=404)
        refusal = self._authorize(request.headers.getall("Authorization", []), client)
        if refusal is not None:
            return self._answer(*refusal)
        raw = await request.read()
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        refusal = check_message(body)
        if refusal is not None:
            if refusal.code != "80300008":
                self.violations.append(f"{refusal.code} {refusal.msg}")
            return self._answer(*refusal)
        assert isinstance(body, dict)
        return await self._settle(request, body)

    def _authorize(self, shown: list[str], client: str) -> Refusal | None:
        if len(shown) != 1 or not shown[0].startswith("Bearer "):
            return Refusal("80200001", "Oauth authentication error", 401)
        holder = self._tokens.get(shown[0].removeprefix("Bearer "))
        if holder is None or holder[0] != client:
            return Refusal("80200001", "Oauth authentication error", 401)
        if self._clock.now() >= holder[1]:
            return Refusal("80200003", "Oauth token expired", 401)
        return None

    async def _settle(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        tokens = body["message"]["token"]
        for token in tokens:
            action = self.faults.strike(token.encode(), b"", Environment.PRODUCTION)
            if action is not None:
                return await self._strike(request, body, action)
        return self._judge(body)

    def _judge(self, body: dict[str, Any]) -> web.Response:
        """Huawei's answer: all, some or none of the tokens are taken."""
        tokens = body["message"]["token"]
        illegal = [token for token in tokens if token in self.unregistered or token.startswith("pushd-asks")]
        if len(illegal) == len(tokens):
            return self._answer("80300007", "All the tokens are invalid", 400)
        if not body.get("validate_only"):
            self.arrived.update(token for token in tokens if token not in self.unregistered)
            self.requests = [*self.requests[1 - REQUESTS_KEPT :], body]
        if illegal:
            told = {"success": len(tokens) - len(illegal), "failure": len(illegal), "illegal_tokens": illegal}
            return self._answer("80100000", orjson.dumps(told).decode(), 200)
        return self._answer("80000000", "Success", 200)

    async def _strike(self, request: web.Request, body: dict[str, Any], action: Any) -> web.StreamResponse:
        match action:
            case Answer():
                status = action.status or 200
                headers = {} if action.retry_after is None else {"Retry-After": action.retry_after}
                if action.latency_ms:
                    await asyncio.sleep(action.latency_ms / 1000)
                text = HTML if action.html else action.body or ""
                self.codes[f"scripted {status}"] += 1
                return web.Response(status=status, text=text, headers=headers)
            case Silence():
                await asyncio.sleep(3_600)
            case Close():
                if request.transport is not None:
                    request.transport.abort()
            case Goaway():
                answer = self._judge(body)
                answer.force_close()
                return answer
        return web.Response(status=500)

    def _answer(self, code: str, msg: str, status: int) -> web.Response:
        self.codes[code] += 1
        return _json({"code": code, "msg": msg, "requestId": secrets.token_hex(12)}, status)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
