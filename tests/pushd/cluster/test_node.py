"""A node's session: taken up again when it is lost, given up when it is fenced."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pushd.cluster.node import LOCK_CLASS, FencedError, Node
from pushd.errors import UnavailableError

pytestmark = pytest.mark.asyncio


class Session:
    """A session of a server that has a lock and a fence."""

    def __init__(self, server, settings) -> None:
        self.server = server
        self.settings = settings
        self.closed = False
        self.said: list[str] = []

    async def execute(self, query, *args, timeout=None):
        self.said.append(query)
        self._check()
        if "pg_advisory_lock" in query:
            assert args == (LOCK_CLASS, 7)

    async def fetchval(self, query, *args, timeout=None):
        self.said.append(query)
        self._check()
        return 7 if "nextval" in query else self.server.fenced_at

    def _check(self):
        if self.closed or self.server.down:
            raise self.server.loss

    def terminate(self):
        self.closed = True

    async def close(self, timeout=None):
        self.closed = True

    def is_closed(self):
        return self.closed


class Server:
    def __init__(self) -> None:
        self.down = False
        self.loss: Exception = ConnectionResetError()
        self.fenced_at = None
        self.sessions: list[Session] = []

    async def connect(self, **settings):
        if self.down:
            raise UnavailableError
        self.sessions.append(Session(self, settings))
        return self.sessions[-1]


async def test_the_lock_is_there_before_the_row_and_silence_ends_the_session():
    server = Server()
    node = Node(server.connect, ping_s=60, timeout_s=9)
    await node.start()
    await asyncio.sleep(0)
    (session,) = server.sessions
    lock, row = (next(at for at, said in enumerate(session.said) if word in said) for word in ("advisory", "INSERT"))
    assert lock < row
    assert session.settings["idle_session_timeout"] == "9000"
    assert (node.id, node.alive) == (7, True)
    await node.stop()
    assert session.closed
    assert not node.alive


@pytest.mark.parametrize(
    "loss",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.PostgresConnectionError("gone"),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("not connected"),  # what asyncpg says of a transport that is gone since this turn
    ],
    ids=lambda each: type(each).__name__,
)
async def test_a_lost_session_is_taken_up_again(loss):
    server = Server()
    server.loss = loss
    node = Node(server.connect, ping_s=0.01)
    await node.start()
    server.down = True
    await asyncio.sleep(0.05)
    assert not node.alive
    server.down = False
    for _ in range(100):
        if node.alive:
            break
        await asyncio.sleep(0.02)
    assert len(server.sessions) == 2
    assert node.alive
    assert "advisory" in server.sessions[1].said[0]
    await node.stop()


async def test_a_fence_is_fatal():
    server = Server()
    node = Node(server.connect, ping_s=0.01)
    failed = asyncio.get_running_loop().create_future()
    node.fatal = failed.set_result
    await node.start()
    server.fenced_at = "now"
    assert isinstance(await asyncio.wait_for(failed, 60), FencedError)
    await node.stop()


async def test_a_server_that_is_away_at_the_start_is_unavailable():
    server = Server()
    server.down = True
    with pytest.raises(UnavailableError):
        await Node(server.connect).start()
