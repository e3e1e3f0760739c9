"""A running daemon on its embedded PostgreSQL with the APNs simulator behind it, and tenants that speak HTTP to it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from pushd.cli.children import free_port
from pushd.config import ApnsConfig, Config, FanoutConfig, HttpConfig, StoreConfig
from pushd.daemon import Daemon
from pushd.model.app import Role
from pushd.simulator.faults import Fault
from pushd.simulator.simulator import Simulator

BUNDLE = "com.example.orchard"
PATIENCE_S = 60.0
_NUMBERS = itertools.count(1)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    body: Any

    @property
    def code(self) -> str:
        """The code of a problem."""
        return self.body["code"]

    @property
    def pointers(self) -> list[str]:
        """Where a problem says that something is wrong."""
        return [fault.get("pointer", fault.get("parameter")) for fault in self.body.get("errors", ())]


class Client:
    """Requests with one key."""

    def __init__(self, session: aiohttp.ClientSession, base: str, key: str | None, app_id: int | None = None) -> None:
        self._session, self.base, self.key = session, base, key
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if app_id is not None:
            self._headers["Pushd-App"] = str(app_id)

    async def __call__(self, method: str, path: str, *, headers: Any = None, **options: Any) -> Answer:
        sent = self._headers | (headers or {})
        async with self._session.request(method, self.base + path, headers=sent, **options) as answer:
            body = await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
            return Answer(answer.status, answer.headers, body)

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The body of an answer that must be a success."""
        answer = await self(method, path, **options, **({} if body is None else {"json": body}))
        assert 200 <= answer.status < 300, (method, path, answer.status, answer.body)
        return answer.body

    async def lines(self, path: str, rows: Iterable[Any]) -> list[Any]:
        """The decoded lines of the answer to an NDJSON stream of rows, which are octets already or to be encoded."""
        data = b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows)
        headers = self._headers | {"Content-Type": "application/x-ndjson"}
        async with self._session.post(self.base + path, headers=headers, data=data) as answer:
            assert answer.status == 200
            return [orjson.loads(line) async for line in answer.content]


class Tenant:
    """An app of its own with a server key, a device key and tokens that nobody else has."""

    def __init__(self, app_id: int, admin: Client, server: Client, device: Client, simulator: Simulator) -> None:
        self.app_id, self.admin, self.server, self.device, self.simulator = app_id, admin, server, device, simulator

    def token(self) -> str:
        """A device token that is used nowhere else."""
        return f"{self.app_id:08x}{next(_NUMBERS):056x}"

    async def register(self, install_id: str, **fields: Any) -> Any:
        """The device as the API shows it, and its token beside it."""
        body = {"install_id": install_id, "bundle": BUNDLE, "token": self.token(), **fields}
        return await self.server.ok("PUT", "/devices", body) | {"token": body["token"]}

    async def register_many(self, count: int, **fields: Any) -> list[str]:
        """Tokens of so many new devices, registered as a stream."""
        tokens = [self.token() for _ in range(count)]
        rows = [{"install_id": token, "bundle": BUNDLE, "token": token, **fields} for token in tokens]
        *_, summary = await self.server.lines("/devices/bulk", rows)
        assert (summary["accepted"], summary["rejected"]) == (count, 0), summary
        return tokens

    async def send(self, audience: Any = None, message: Any = None, **more: Any) -> Any:
        """The answer to a send."""
        body = {"audience": audience or {"type": "broadcast"}, "message": message or {"title": "Hello"}, **more}
        return await self.server.ok("POST", "/notifications", body)

    async def show(self, notification_id: int) -> Any:
        """The notification; its ledger must add up whenever it is looked at."""
        view = await self.server.ok("GET", f"/notifications/{notification_id}")
        counts = view["counts"]
        assert counts["targeted"] == sum(count for name, count in counts.items() if name != "targeted"), counts
        return view

    async def until(self, notification_id: int, done: Callable[[Any], bool]) -> Any:
        """The notification once this holds of it."""
        async with asyncio.timeout(PATIENCE_S):
            while not done(view := await self.show(notification_id)):
                await asyncio.sleep(0.02)
        return view

    async def finished(self, notification_id: int) -> Any:
        """The notification once it is done."""
        return await self.until(notification_id, lambda view: view["finished_at"] is not None)

    async def sent(self, audience: Any = None, message: Any = None, **more: Any) -> Any:
        """A notification that was sent and is done."""
        return await self.finished((await self.send(audience, message, **more))["id"])

    async def behind(self, notification_id: int, **query: Any) -> list[Any]:
        """Devices behind an outcome, of all pages."""
        rows: list[Any] = []
        cursor = None
        while True:
            params = query | ({"cursor": cursor} if cursor else {})
            page = await self.server.ok("GET", f"/notifications/{notification_id}/devices", params=params)
            rows += page["items"]
            cursor = page["next"]
            if cursor is None:
                return rows

    def arrived(self, token: str) -> int:
        """How many pushes for this token the gateway took."""
        return self.simulator.record.count(token, status=200)

    def fault(self, action: Any, **where: Any) -> int:
        """Scripts the gateway; the fault's id."""
        return self.simulator.faults.add(Fault(action=action, **where))


async def pushd(client: Client, *arguments: str) -> Any:
    """What a command of the command line prints, with the client's key and app, against its daemon."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        key.write_text(client.key or "")
        options = ["--url", client.base.removesuffix("/pushd/v1"), "--key-file", str(key), "--json"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushd", *arguments, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err
    return orjson.loads(out)


class World:
    """The daemon, the simulator, and an admin."""

    def __init__(self, daemon: Daemon, simulator: Simulator, session: aiohttp.ClientSession, admin_key: str) -> None:
        self.daemon, self.simulator, self.session, self.admin_key = daemon, simulator, session, admin_key
        self.base = f"http://127.0.0.1:{daemon.http.port}/pushd/v1"
        self.admin = Client(session, self.base, admin_key)

    def client(self, key: str | None, app_id: int | None = None) -> Client:
        """A client with another key."""
        return Client(self.session, self.base, key, app_id)

    async def tenant(self, *, credential: bool = True) -> Tenant:
        """A new app with keys, and a credential that the simulator knows."""
        app = await self.admin.ok("POST", "/apps", {"name": "Orchard", "settings": {"default_title": "Orchard"}})
        admin = self.client(self.admin_key, app["id"])
        keys = [await admin.ok("POST", "/keys", {"role": role}) for role in ("server", "device")]
        server, device = (self.client(key["secret"]) for key in keys)
        if credential:
            await server.ok("POST", "/credentials", self.credential())
        return Tenant(app["id"], admin, server, device, self.simulator)

    def credential(self, key_id: str = "SIMKEY0001") -> Any:
        """What is uploaded of the simulator's provider key."""
        identity = self.simulator.identity
        key = identity.keys[key_id]
        secret = {"type": "apns_token", "team_id": key.team_id, "key_id": key_id, "private_key": identity.pem(key_id)}
        return {"secret": secret, "environment": "production", "name": key_id}


@asynccontextmanager
async def running(
    *, fanout: FanoutConfig | None = None, http: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[World]:
    """A daemon and a simulator of one's own; `sections` are further parts of its configuration, by name."""
    folder = Path(tempfile.mkdtemp(prefix="pushd-acceptance-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as another user, who has to pass through
    simulator = Simulator(folder / "apns")
    await simulator.start()
    config = Config(
        http=HttpConfig(port=free_port(), stop_timeout_s=1, **(http or {})),
        store=StoreConfig(data_dir=str(folder / "data")),
        apns=ApnsConfig(
            production_host="127.0.0.1",
            production_port=simulator.port,
            sandbox_host="127.0.0.1",
            sandbox_port=simulator.sandbox_port,
            production_management_host="127.0.0.1",
            production_management_port=simulator.management_port,
            sandbox_management_host="127.0.0.1",
            sandbox_management_port=simulator.sandbox_management_port,
            ca_file=str(simulator.ca_file),
        ),
        fanout=fanout or FanoutConfig(),
        **sections,
    )
    daemon = Daemon(config, environ={})
    world: World | None = None
    try:
        await daemon.start()
        _, admin_key = await daemon.store.keys.create(None, Role.ADMIN, "acceptance")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            world = World(daemon, simulator, session, admin_key)
            yield world
        daemon = world.daemon
        assert daemon.fanout.drift == 0
        assert not daemon.failed.done() or daemon.failed.exception() is None
        assert not simulator.record.violations, list(simulator.record.violations)
    finally:
        await (world.daemon if world else daemon).stop()  # a test may have started it anew
        await simulator.stop()
        shutil.rmtree(folder, ignore_errors=True)
