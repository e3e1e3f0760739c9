"""The browsers' side of the local push service: the WebSocket protocol by which Firefox subscribes and receives.

Firefox keeps one connection to its push service and speaks JSON messages on it (Gecko's PushServiceWebSocket, and
Mozilla's autopush): `hello`, `register`, `unregister`, `notification`, `ack`, `nack`; `{}` is a ping. What a push
service accepted over HTTP is handed on as it is, encrypted; the browser's acknowledgement tells whether it could
decrypt it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import orjson
from aiohttp import WSMsgType, web
from msgspec import Struct

from pushd.errors import ConfigError

HOST = "127.0.0.1"
SUBPROTOCOL = "push-notification"
MESSAGE_BYTES_MAX = 65_536
SHUTDOWN_TIMEOUT_S = 1.0
WAITING_MAX = 100
"""Messages kept for a browser that is away; the oldest is dropped first."""
REMEMBERED_MAX = 10_000
"""Acknowledgements kept."""

DELIVERED, UNDECRYPTABLE = 100, 101
"""What an acknowledgement's code means: 101 is the browser's word that the encryption was wrong."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One channel of one browser."""

    user_agent: str
    """The browser's id, as `hello` gave it."""
    channel: str
    key: bytes
    """The application server key that it was made with, uncompressed; empty: none."""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a browser said of a message."""

    channel: str
    version: str
    code: int


@dataclass(slots=True, eq=False)
class _Browser:
    socket: web.WebSocketResponse | None = None
    waiting: deque[bytes] = field(default_factory=lambda: deque(maxlen=WAITING_MAX))


class _Said(Struct, rename={"type": "messageType", "channel": "channelID", "agent": "uaid"}):
    type: str = ""
    channel: str = ""
    agent: str | None = None
    key: str | None = None
    updates: list[dict[str, str | int]] = []


class Browsers:
    """Every browser that is, or was, connected. `issue` makes the endpoint of a new subscription."""

    def __init__(self, issue: Callable[[Subscription], str], revoke: Callable[[Subscription], None]) -> None:
        self._issue = issue
        self._revoke = revoke
        self._browsers: dict[str, _Browser] = {}
        self._runner: web.AppRunner | None = None
        self.subscriptions: dict[str, Subscription] = {}
        """By channel."""
        self.acknowledged: deque[Acknowledgement] = deque(maxlen=REMEMBERED_MAX)
        self._changed = asyncio.Condition()

    async def start(self, port: int = 0) -> int:
        """The port on 127.0.0.1 that browsers connect to, as `dom.push.serverURL` names it."""
        app = web.Application()
        app.add_routes([web.get("/", self._serve)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, port).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {HOST}:{port}: {error.strerror}") from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Ends every connection, and the listener."""
        for browser in self._browsers.values():
            if browser.socket is not None:
                await browser.socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def forget(self) -> None:
        """Knows no browser any more: each comes back as a new one, whose subscriptions are gone."""
        known, self._browsers = self._browsers, {}
        for subscription in self.subscriptions.values():
            self._revoke(subscription)
        self.subscriptions.clear()
        for browser in known.values():
            if browser.socket is not None:
                await browser.socket.close()

    async def deliver(self, subscription: Subscription, body: bytes, encoding: str) -> str:
        """The version under which a message was handed to its browser, or kept until that comes back."""
        version = secrets.token_hex(8)
        message: dict[str, object] = {
            "messageType": "notification",
            "channelID": subscription.channel,
            "version": version,
        }
        if body:
            message |= {"data": _text(body), "headers": {"encoding": encoding}}
        browser = self._browsers[subscription.user_agent]
        if browser.socket is None or browser.socket.closed:
            browser.waiting.append(orjson.dumps(message))
        else:
            await _say(browser.socket, message)
        return version

    async def acknowledgement(self, version: str, timeout_s: float) -> Acknowledgement | None:
        """What the browser said of a message; None when it said nothing in time."""

        def said() -> Acknowledgement | None:
            return next((each for each in self.acknowledged if each.version == version), None)

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(said)
        except TimeoutError:
            return None
        return said()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=MESSAGE_BYTES_MAX)
        await socket.prepare(request)
        browser_id = ""
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                said = msgspec.json.decode(message.data, type=_Said)
            except msgspec.MsgspecError:
                break
            if said.type in ("", "ping"):
                await socket.send_str("{}")
            elif said.type == "hello":
                browser_id = await self._hello(socket, said)
            elif browser_id:
                await self._hear(socket, browser_id, said)
            else:
                break
        browser = self._browsers.get(browser_id)
        if browser is not None and browser.socket is socket:
            browser.socket = None
        await socket.close()
        return socket

    async def _hello(self, socket: web.WebSocketResponse, said: _Said) -> str:
        known = said.agent if said.agent in self._browsers else None
        browser_id = known or secrets.token_hex(16)
        browser = self._browsers.setdefault(browser_id, _Browser())
        browser.socket = socket
        answer = {"messageType": "hello", "uaid": browser_id, "status": 200, "use_webpush": True, "broadcasts": {}}
        await _say(socket, answer)
        while browser.waiting:
            await socket.send_str(browser.waiting.popleft().decode())
        return browser_id

    async def _hear(self, socket: web.WebSocketResponse, browser_id: str, said: _Said) -> None:
        if said.type == "register":
            await self._register(socket, browser_id, said)
        elif said.type == "unregister":
            subscription = self.subscriptions.pop(said.channel, None)
            if subscription is not None:
                self._revoke(subscription)
            await _say(socket, {"messageType": "unregister", "channelID": said.channel, "status": 200})
        elif said.type == "ack":
            async with self._changed:
                for update in said.updates:
                    channel, version = str(update.get("channelID", "")), str(update.get("version", ""))
                    self.acknowledged.append(Acknowledgement(channel, version, int(update.get("code", DELIVERED))))
                self._changed.notify_all()

    async def _register(self, socket: web.WebSocketResponse, browser_id: str, said: _Said) -> None:
        try:
            key = base64.urlsafe_b64decode(said.key or "")
        except (binascii.Error, ValueError):
            await _say(socket, {"messageType": "register", "channelID": said.channel, "status": 400})
            return
        subscription = Subscription(browser_id, said.channel, key)
        subscription.endpoint = self._issue(subscription)
        self.subscriptions[said.channel] = subscription
        await _say(
            socket,
            {
                "messageType": "register",
                "channelID": said.channel,
                "status": 200,
                "pushEndpoint": subscription.endpoint,
            },
        )


async def _say(socket: web.WebSocketResponse, message: dict[str, object]) -> None:
    await socket.send_str(orjson.dumps(message).decode())


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
