"""What every command works with: store, index, credentials, fan-out, clock and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pushd.bitset import Devices
    from pushd.clock import Clock
    from pushd.config import Config
    from pushd.credentials.keyring import Keyring
    from pushd.credentials.vault import Vault
    from pushd.model.app import Settings
    from pushd.model.notification import Ledger, Notification
    from pushd.store.store import Store
    from pushd.targeting.index import Index


class Fanout(Protocol):
    """What commands ask of the fan-out; `fanout.engine` is the implementation."""

    def check_room(self) -> None:
        """Raises TooManyRequestsError or UnavailableError, each with a truthful Retry-After, when it is full."""

    def release(self, notification: Notification, app: Settings, devices: Devices) -> None:
        """Hands an accepted, committed notification over for sending."""

    def cancel(self, notification_id: int) -> bool:
        """Whether this daemon was sending it; what is not written yet is then settled as cancelled."""

    def ledger(self, notification_id: int) -> Ledger | None:
        """Live counts of a notification that this daemon is sending, else None."""

    def credential_changed(self, credential_id: int) -> None:
        """Lets messages that waited for this credential go, with whatever it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that commands use; the daemon builds one."""

    store: Store
    index: Index
    keyring: Keyring
    vault: Vault
    fanout: Fanout
    clock: Clock
    config: Config
