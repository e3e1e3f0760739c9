"""What `bench ingest` runs against: a daemon on one core, PostgreSQL and nginx on the other, an echo in its place."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench import measure, population
from bench.apns_wire import certificate, provider_token

USERS = 10_000
CAMPAIGNS_MAX = 500_000


@dataclass(kw_only=True)
class World:
    """The processes that are measured, and what the driver needs to know of them."""

    root: Path
    far: Far
    port: int
    app_id: int
    key: str
    admin: str
    daemon: int
    postgres: int
    echo_port: int
    echo: int
    users: int
    dsn: str
    sent: int = 0
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Far:
    """nginx in Apple's place."""

    port: int
    pid: int
    ca_file: Path
    log: Path


@contextlib.asynccontextmanager
async def running(root: Path, devices: int) -> AsyncIterator[World]:
    """Everything running, pinned, warm; stopped at the end."""
    from pushd.config import StoreConfig
    from pushd.model.app import Role, Settings
    from pushd.store.embedded import EmbeddedServer
    from pushd.store.store import Store

    data = root / "data"
    data.mkdir(mode=0o711)
    server = EmbeddedServer(data)
    dsn = await server.start()
    try:
        store = Store(StoreConfig(), dsn)
        await store.start()
        app = await store.apps.create("Bench", Settings())
        _, admin = await store.keys.create(None, Role.ADMIN, "bench")
        _, key = await store.keys.create(app.id, Role.SERVER, "bench")
        async with store.database.connection() as connection:
            await population.load(connection, app.id, devices)
        await store.stop()
        echo_port, port = measure.free_port(), measure.free_port()
        with (
            _far(root) as far,
            measure.server([sys.executable, "-m", "bench.ingest_world", "echo", str(echo_port)], echo_port) as echo,
            _daemon(root, far, dsn, port) as daemon,
        ):
            await _credential(port, admin, app.id)
            assert server.pid is not None
            yield World(
                root=root,
                far=far,
                port=port,
                app_id=app.id,
                key=key,
                admin=admin,
                daemon=daemon,
                postgres=server.pid,
                echo_port=echo_port,
                echo=echo,
                users=min(devices, USERS),
                dsn=dsn,
            )
    finally:
        await server.stop()


@contextlib.contextmanager
def _far(root: Path) -> Iterator[Far]:
    port, log, config = measure.free_port(), root / "pushes.log", root / "nginx.conf"
    ca_file, key_file = root / "cert.pem", root / "key.pem"
    certificate(ca_file, key_file)
    config.write_text(f"""
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.err crit;
events {{ worker_connections 256; }}
http {{
    map $http_apns_priority $single {{ 10 1; default 0; }}
    log_format push '$msec $http_apns_id';
    access_log {log} push buffer=64k flush=100ms if=$single;
    keepalive_requests 1000000000; keepalive_timeout 1h; http2_max_concurrent_streams 1000; http2_idle_timeout 1h;
    client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root};
    scgi_temp_path {root};
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {ca_file}; ssl_certificate_key {key_file};
        location / {{ return 200; }}
    }}
}}
""")
    with measure.server(["nginx", "-c", str(config)], port, core=measure.CLIENT_CORE) as pid:
        yield Far(port=port, pid=pid, ca_file=ca_file, log=log)


@contextlib.contextmanager
def _daemon(root: Path, far: Far, dsn: str, port: int) -> Iterator[int]:
    settings = {
        "PUSHD__APNS__PRODUCTION_HOST": "localhost",
        "PUSHD__APNS__PRODUCTION_PORT": str(far.port),
        "PUSHD__APNS__CA_FILE": str(far.ca_file),
        # Arrays are taken faster than they go out: what waits meanwhile must fit, or the driver would be told to.
        "PUSHD__FANOUT__CAMPAIGNS_MAX": str(CAMPAIGNS_MAX),
        "PUSHD__FANOUT__APP_CAMPAIGNS_MAX": str(CAMPAIGNS_MAX),
        "PUSHD__DIALECTS__GRAVITEC_PLAIN_HTTP": "true",
    }
    command = [sys.executable, "-m", "pushd", "up", "--dsn", dsn, "--data-dir", str(root / "data")]
    command += ["--port", str(port), "--with-parent"]
    with measure.server(command, port, wait_s=120.0, environ=settings, errors=root / "daemon.log") as pid:
        yield pid


async def _credential(port: int, admin: str, app_id: int) -> None:
    private_key, _ = provider_token()
    secret = {"type": "apns_token", "team_id": "BENCHTEAM1", "key_id": "BENCHKEY01", "private_key": private_key}
    body = {"secret": secret, "environment": "production", "name": "bench"}
    headers = {"Authorization": f"Bearer {admin}", "Pushd-App": str(app_id)}
    url = f"http://127.0.0.1:{port}/pushd/v1/credentials"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert answer.status == 201, await answer.text()


def _serve_echo(port: int) -> None:
    """A bare aiohttp server: JSON in, the same JSON out."""
    import orjson
    import uvloop
    from aiohttp import web

    async def echo(request: web.BaseRequest) -> web.Response:
        return web.Response(body=orjson.dumps(orjson.loads(await request.read())), content_type="application/json")

    async def serve() -> None:
        server = web.Server(echo, access_log=None)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)
        await listener.serve_forever()

    uvloop.run(serve())


if __name__ == "__main__":
    _serve_echo(int(sys.argv[2]))
