"""What every command works with: store, index, credentials, fan-out, clock and configuration."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from pushd.commands.safari_log import SafariLog
from pushd.config.dialects import DialectsConfig
from pushd.config.receipts import ReceiptsConfig
from pushd.config.safari import SafariConfig
from pushd.config.webpush import WebPushConfig
from pushd.credentials.handles import KEY_BYTES as HANDLE_BYTES
from pushd.credentials.handles import Handles
from pushd.errors import PushdError
from pushd.reports.beacons import KEY_BYTES, Beacons
from pushd.reports.limits import ClientSends, FollowerLimits, PasswordLimits, ReceiptLimits
from pushd.service import Service
from pushd.transport.guard import Guard

if TYPE_CHECKING:
    from pushd.bitset import Devices
    from pushd.clock import Clock
    from pushd.commands.definitions import Definitions
    from pushd.commands.pictures import Pictures
    from pushd.config import Config
    from pushd.credentials.keyring import Keyring
    from pushd.credentials.vault import Vault
    from pushd.feed.feed import Feed
    from pushd.gateway import Gateway
    from pushd.inbox.catalogue import Catalogue
    from pushd.model.app import App, Settings
    from pushd.model.device import GatewayName
    from pushd.model.notification import Ledger, Notification, Send
    from pushd.outcome import Reasons
    from pushd.store.store import Store
    from pushd.targeting.index import Index

log = structlog.get_logger(__name__)

FINISH_S = 2.0
"""After the listeners are closed: for commands whose askers went away, such as an accept that waits for its commit."""
T = TypeVar("T")


class Fanout(Protocol):
    """What commands ask of the fan-out; `fanout.engine` is the implementation."""

    @property
    def reasons(self) -> Mapping[int, Reasons]:
        """Tables of reasons by gateway number."""

    def check_room(self, rows: int = 1, app_id: int = 0) -> None:
        """Raises where so many rows more are too many: TooManyRequestsError of this app, UnavailableError of all.

        Retry-After is when they will fit, by what waits and how fast it goes.
        """

    def release(self, notification: Notification, settings: Settings, devices: Devices, *, version: int = -1) -> None:
        """Starts a notification whose targets are committed; `version` is the index's when they were found."""

    def cancel(self, notification_id: int) -> bool:
        """Ends what waits of a notification; False: it does not run here."""

    def pause(self, notification_id: int) -> bool:
        """Keeps back what waits of a notification; False: it does not run here."""

    def unpause(self, notification_id: int) -> bool:
        """Lets what was kept back go on; False: it does not run here."""

    def ledger(self, notification_id: int) -> Ledger | None:
        """The live ledger of a notification that runs here."""

    def counts(self, notification_id: int) -> dict[tuple[int, int], int] | None:
        """Committed outcomes by (gateway number, code) of a notification that runs here."""

    def credentials_changed(self) -> None:
        """Lets what waits for a credential see that it was resumed, replaced or removed."""


class Gate(Protocol):
    """What commands ask of quiet hours and frequency caps; `scheduler.gate` is the implementation."""

    def concerns(self, app: App, send: Send, /) -> bool:
        """Whether some device may have to wait for this send, or not get it: then it is no plain one."""


class NoGate:
    """Of an installation that knows neither quiet hours nor caps."""

    def concerns(self, _: App, __: Send, /) -> bool:
        """False."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that commands use; the daemon builds one."""

    store: Store
    index: Index
    definitions: Definitions
    keyring: Keyring
    vault: Vault
    gateways: Mapping[GatewayName, Gateway]
    fanout: Fanout
    inbox: Catalogue
    clock: Clock
    config: Config
    node_id: int
    """Of this daemon: what it accepts is its own to send."""
    guard: Guard = field(default_factory=lambda: Guard.of(WebPushConfig()))
    """What the endpoints of subscriptions are checked with."""
    position: Callable[[], int] = lambda: 0
    """Of the change feed: all changes below it are in the index."""
    gate: Gate = field(default_factory=NoGate)
    """Quiet hours and frequency caps."""
    safari_log: SafariLog = field(default_factory=lambda: SafariLog(SafariConfig()))
    """What Safari complained of to its web service."""
    beacons: Beacons = field(default_factory=lambda: Beacons(secrets.token_bytes(KEY_BYTES)))
    """What beacons of installs are checked with."""
    handles: Handles = field(default_factory=lambda: Handles(secrets.token_bytes(HANDLE_BYTES)))
    """What dialects name things by whose numbers could be guessed."""
    limits: ReceiptLimits = field(default_factory=lambda: ReceiptLimits(ReceiptsConfig()))
    """What installs and device keys may still report."""
    client_sends: ClientSends = field(default_factory=ClientSends)
    """What users may still send by themselves."""
    followers: FollowerLimits = field(default_factory=lambda: FollowerLimits(DialectsConfig()))
    """What browsers may still ask for that register themselves."""
    pictures: Pictures | None = None
    """Pictures that are fitted; None: they go out as they are given."""
    passwords: PasswordLimits = field(default_factory=lambda: PasswordLimits(DialectsConfig()))
    """How often passwords may still be wrong."""
    feed: Feed | None = None
    """Webhooks and streams; None: they are not served here."""
    _running: set[asyncio.Task[Any]] = field(default_factory=set)

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns. Once begun it is carried to its end, even when the one who asked goes away meanwhile.

        Between a commit and its effect in memory nothing may be cancelled: index and fan-out would miss it.
        """
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def finish(self, timeout_s: float) -> None:
        """Waits, at most so many seconds, for work whose asker went away."""
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=timeout_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Who asked gets the error too, unless the deadline came first: then this line is all there is.
            if isinstance(error, PushdError):
                log.debug("command_failed", error=repr(error))
            else:
                log.error("command_failed", error=repr(error), exc_info=error)


class UnderWay(Service):
    """Commands whose askers went away, in the order of stops: after the listeners, before the parts that they use."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    async def stop(self) -> None:
        """Gives them a little time."""
        await self._context.finish(FINISH_S)
