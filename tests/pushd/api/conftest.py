"""The API on a real server, with whatever operations and context a test gives it."""

import asyncio
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest

from pushd.api.serve import Api
from pushd.config import HttpConfig
from pushd.model.app import Key, Role
from pushd.web.auth import Authenticator
from pushd.web.cursor import Cursors
from pushd.web.router import Router
from pushd.web.server import HttpServer


def key(id_, app_id, role):
    return Key(id=id_, app_id=app_id, role=role, name="", hint=f"pushd_{role}_x", created_at=0, revoked_at=None)


KEYS = {
    "admin": key(1, None, Role.ADMIN),
    "server": key(2, 1, Role.SERVER),
    "device": key(3, 1, Role.DEVICE),
    "other": key(4, 2, Role.SERVER),
}


class Keys:
    """Keys whose secret is their name."""

    async def authenticate(self, secret, _):
        return KEYS.get(secret)


class Client:
    """Requests to a server, as one key."""

    def __init__(self, session, base):
        self.session, self.base = session, base

    async def __call__(self, method, path, *, key="server", app=None, headers=(), **options):
        """Status, headers, and the body: decoded JSON, or text."""
        sent = dict(headers)
        if key:
            sent["Authorization"] = f"Bearer {key}"
        if app is not None:
            sent["Pushd-App"] = str(app)
        async with (
            asyncio.timeout(60),
            self.session.request(method, self.base + path, headers=sent, **options) as answer,
        ):
            body = await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
            return answer.status, answer.headers, body


@pytest.fixture
def serve_router():
    """`async with serve_router(router) as client`."""

    @asynccontextmanager
    async def serving(router, base="", **config):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = HttpServer(HttpConfig(stop_timeout_s=2, linger_s=0.2, **config), router, plain_socket=sock)
        await server.start()
        async with aiohttp.ClientSession() as session:
            try:
                yield Client(session, f"http://127.0.0.1:{server.port}{base}")
            finally:
                await server.stop()

    return serving


@pytest.fixture
def serve_api(serve_router):
    """`async with serve_api(operations, context) as call`."""

    def serving(operations, context=None, **config):
        router, settings = Router(), HttpConfig(**config)
        Api(context, Authenticator(Keys(), 10_000), Cursors(b"k" * 32), settings).mount(router, operations)
        return serve_router(router, "/pushd/v1", **config)

    return serving
