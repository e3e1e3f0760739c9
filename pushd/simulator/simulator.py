"""The local APNs as one part: its listeners, their keys, their record, and the interface that asks and scripts."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pushd.clock import Clock, SystemClock
from pushd.errors import ConfigError
from pushd.model.device import Environment
from pushd.service import Service
from pushd.simulator.apns import ApnsConnection
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.channel_management import ManagementConnection
from pushd.simulator.connection import Connection
from pushd.simulator.control import ControlServer, Others
from pushd.simulator.faults import FaultBook
from pushd.simulator.identity import Identity, Manifest, ProviderKey
from pushd.simulator.provider import ProviderTokens
from pushd.simulator.record import Record
from pushd.simulator.world import World

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
BACKLOG = 512


class Simulator(Service):
    """A local APNs. `faults` scripts it and `record` says what arrived, also while it runs.

    `port` is the production listener's, `sandbox_port` the sandbox's, `management_port` and `sandbox_management_port`
    those of channel management, `control_port` the HTTP interface's; 0 picks free ones, which the attributes of the
    same names show after `start`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 0,
        sandbox_port: int = 0,
        management_port: int = 0,
        sandbox_management_port: int = 0,
        control_port: int = 0,
        host: str = "127.0.0.1",
        seed: int = 0,
        keys: Sequence[ProviderKey] = (),
        names: Iterable[str] = (),
        behaviour: Behaviour | None = None,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        others: Callable[[Identity, Clock], Others] | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self.port, self.sandbox_port, self.control_port = port, sandbox_port, control_port
        self.management_port, self.sandbox_management_port = management_port, sandbox_management_port
        self.behaviour = behaviour or Behaviour()
        self.clock = clock or SystemClock()
        self.identity = Identity(state_dir, keys, names)
        self.faults = FaultBook(seed)
        self.record = Record(self.behaviour)
        self.tokens = ProviderTokens(self.identity, self.behaviour, self.clock)
        self.manifest: Manifest
        self._tls = tls
        self._world = World(
            behaviour=self.behaviour,
            clock=self.clock,
            tokens=self.tokens,
            faults=self.faults,
            record=self.record,
            dice=random.Random(seed),  # noqa: S311 - dice, not secrets
        )
        self.channels = self._world.channels
        self._open: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self.others = others(self.identity, self.clock) if others else None
        """Further vendors that start and stop with it."""
        self._control = ControlServer(self.record, self.faults, self.clock, self.others, calls=self.channels.calls)

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        return self.identity.ca_file

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def start(self) -> None:
        """Listens on every port and writes `simulator.json`."""
        if self.others is not None:
            await self.others.start()
        tls = self._tls or self.identity.tls()
        production, sandbox = Environment.PRODUCTION, Environment.SANDBOX
        self.port = await self._listen(ApnsConnection, self.port, production, tls)
        self.sandbox_port = await self._listen(ApnsConnection, self.sandbox_port, sandbox, tls)
        self.management_port = await self._listen(ManagementConnection, self.management_port, production, tls)
        self.sandbox_management_port = await self._listen(
            ManagementConnection, self.sandbox_management_port, sandbox, tls
        )
        self.control_port = await self._control.start(self.control_port)
        self.manifest = self.identity.write_manifest(
            host=self.host,
            production_port=self.port,
            sandbox_port=self.sandbox_port,
            management_port=self.management_port,
            sandbox_management_port=self.sandbox_management_port,
            control_port=self.control_port,
            others=self.others.listing() if self.others else {},
            environ=self._environ() | (self.others.environ() if self.others else {}),
        )

    async def stop(self) -> None:
        """Closes listeners and connections."""
        if self.others is not None:
            await self.others.stop()
        for server in self._servers:
            server.close()
        self.drop_connections()
        await self._control.stop()
        for server in self._servers:
            await asyncio.wait_for(server.wait_closed(), CLOSE_TIMEOUT_S)
        self._servers.clear()
        await super().stop()

    def _environ(self) -> dict[str, str]:
        return {
            "PUSHD__APNS__PRODUCTION_HOST": self.host,
            "PUSHD__APNS__PRODUCTION_PORT": str(self.port),
            "PUSHD__APNS__SANDBOX_HOST": self.host,
            "PUSHD__APNS__SANDBOX_PORT": str(self.sandbox_port),
            "PUSHD__APNS__PRODUCTION_MANAGEMENT_HOST": self.host,
            "PUSHD__APNS__PRODUCTION_MANAGEMENT_PORT": str(self.management_port),
            "PUSHD__APNS__SANDBOX_MANAGEMENT_HOST": self.host,
            "PUSHD__APNS__SANDBOX_MANAGEMENT_PORT": str(self.sandbox_management_port),
            "PUSHD__APNS__CA_FILE": str(self.ca_file),
        }

    def drop_connections(self) -> int:
        """How many open connections were cut off at once."""
        connections = list(self._open)
        for connection in connections:
            connection.end("dropped", abort=True)
        return len(connections)

    async def _listen(
        self, connection: type[ApnsConnection], port: int, environment: Environment, tls: ssl.SSLContext
    ) -> int:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: connection(self._world, environment, self._open),
                self.host,
                port,
                ssl=tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.host}:{port}: {error.strerror}") from error
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound
