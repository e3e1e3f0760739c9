"""The keyring: every credential of every app in memory, opened, and which of them serves a route.

Theory. PostgreSQL holds sealed credentials; `reload` projects them into memory. A refused credential is paused here
first, so that sending stops at once, and in the store right after; until that is saved (and for a reload that began
earlier) the local pause outweighs what the store says. A secret that cannot be opened counts as paused: its messages
wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import structlog

from pushd.credentials import secrets
from pushd.credentials.vault import Vault
from pushd.errors import ConfigError, NotFoundError, PushdError
from pushd.model.credential import Credential, CredentialState, SafariCertificate, Secret
from pushd.model.device import Environment, GatewayName, Route
from pushd.service import Service

log = structlog.get_logger(__name__)

SAVE_RETRY_S = 5.0
"""Between attempts to save a pause while the store is away."""


class SealedCredential(Protocol):
    """A row of the store: the credential and its sealed secret."""

    @property
    def credential(self) -> Credential:
        """What the API shows of it."""

    @property
    def sealed(self) -> bytes:
        """What the vault opens."""


class CredentialSource(Protocol):
    """What the keyring needs of the store."""

    async def load_active(self) -> Sequence[SealedCredential]:
        """Every credential that is not deleted, paused ones too."""

    async def set_state(
        self, app_id: int, credential_id: int, state: CredentialState, reason: str | None, sealed: bytes | None = None
    ) -> Credential | None:
        """The credential in its new state; None when there is no such one, or its secret is not `sealed` any more."""


class Change(Enum):
    """What happened to a credential."""

    ADDED = "added"
    REPLACED = "replaced"
    """Its secret is another one: connections that used the old one must close (A-06)."""
    REMOVED = "removed"
    PAUSED = "paused"
    RESUMED = "resumed"


Listener = Callable[[int, Change], None]


@dataclass(slots=True, eq=False)
class _Entry:
    credential: Credential
    sealed: bytes
    secret: Secret | None
    """None: the vault could not open it."""
    paused: bool
    unsaved: bool = False
    saved_in: int = 0
    """The reload that was the newest when the pause was saved."""
    paused_bundles: set[str] = field(default_factory=set)

    def state(self, bundle: str | None) -> CredentialState:
        paused = self.paused or self.secret is None or bundle in self.paused_bundles
        return CredentialState.PAUSED if paused else CredentialState.ACTIVE


class Keyring(Service):
    """Which credential serves which route, and whether it may be used now."""

    def __init__(self, source: CredentialSource, vault: Vault) -> None:
        super().__init__()
        self._source = source
        self._vault = vault
        self._entries: dict[int, _Entry] = {}
        self._serving: dict[tuple[int, GatewayName, Environment], list[_Entry]] = {}
        self._gateways: dict[int, frozenset[GatewayName]] = {}
        self._listeners: list[Listener] = []
        self._reloading = asyncio.Lock()
        self._reloads = 0

    async def start(self) -> None:
        """Loads every credential."""
        await self.reload()

    def listen(self, listener: Listener) -> None:
        """Calls `listener` after every change of a credential, from now on."""
        self._listeners.append(listener)

    def find(self, route: Route) -> int | None:
        """The id of the credential for a route, paused or not; None when its app has none for it.

        One that may be used beats a paused one, a topic-specific key a team-scoped one (A-18), a newer id an older.
        """
        fitting = [
            entry
            for entry in self._serving.get((route.app_id, route.kind.gateway, route.environment), ())
            if entry.secret is None or entry.secret.serves(route.bundle)
        ]
        if not fitting:
            return None
        return max(fitting, key=lambda entry: _rank(entry, route.bundle)).credential.id

    def gateways(self, app_id: int) -> frozenset[GatewayName]:
        """The gateways that an app has credentials for, paused ones too."""
        return self._gateways.get(app_id, frozenset())

    def url_formats(self, app_id: int) -> list[str]:
        """The urlFormatStrings of an app's websites, empty where one is not known (S-03)."""
        entries = self._serving.get((app_id, GatewayName.SAFARI, Environment.PRODUCTION), ())
        return [entry.secret.url_format or "" for entry in entries if isinstance(entry.secret, SafariCertificate)]

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None for a credential that is gone, or that the vault could not open."""
        entry = self._entries.get(credential_id)
        return None if entry is None else entry.secret

    def opened(self) -> Iterator[tuple[Credential, Secret]]:
        """Every credential whose secret could be opened."""
        for entry in self._entries.values():
            if entry.secret is not None:
                yield entry.credential, entry.secret

    def state(self, credential_id: int, bundle: str | None = None) -> CredentialState | None:
        """Whether a credential may be used (for a bundle, when one is named); None for one that is gone."""
        entry = self._entries.get(credential_id)
        return None if entry is None else entry.state(bundle)

    def unresolved(self, routes: Iterable[Route]) -> list[Route]:
        """Those of the routes that no credential serves, for the check at start-up (A-18)."""
        return [route for route in routes if self.find(route) is None]

    async def pause(
        self, credential_id: int, reason: str, bundle: str | None = None, *, secret: Secret | None = None
    ) -> None:
        """Stops the use of a credential, with one alert in the log; again is nothing (G-07).

        With `secret` only while that is the credential's: what is known of one says nothing of the next.
        With `bundle` (TopicDisallowed) only its use for that bundle, in memory: after a restart the gateway is asked
        again.
        """
        entry = self._entries.get(credential_id)
        if entry is None or entry.state(bundle) is CredentialState.PAUSED or secret not in (None, entry.secret):
            return
        if bundle is None:
            entry.paused = entry.unsaved = True
        else:
            entry.paused_bundles.add(bundle)
        log.error("credential_paused", **_named(entry.credential), reason=reason, bundle=bundle)
        self._tell(credential_id, Change.PAUSED)
        if bundle is None:
            await self._save_pause(entry, reason)

    async def resume(self, credential_id: int) -> None:
        """Lets a credential be used again, for every bundle; NotFoundError when it is gone."""
        entry = self._entries.get(credential_id)
        if entry is None:
            raise NotFoundError
        credential = entry.credential
        if await self._source.set_state(credential.app_id, credential_id, CredentialState.ACTIVE, None) is None:
            raise NotFoundError
        entry.unsaved, entry.paused = False, False
        entry.paused_bundles.clear()
        log.info("credential_resumed", **_named(credential))
        self._tell(credential_id, Change.RESUMED)

    async def reload(self, app_ids: Collection[int] | None = None) -> None:
        """Makes the keyring what the store says, for these apps or for all."""
        async with self._reloading:
            self._reloads += 1
            rows = {row.credential.id: row for row in await self._source.load_active()}
            changes: list[tuple[int, Change]] = []
            for credential_id, entry in list(self._entries.items()):
                if credential_id not in rows and _among(entry.credential, app_ids):
                    del self._entries[credential_id]
                    changes.append((credential_id, Change.REMOVED))
            for credential_id, row in rows.items():
                if _among(row.credential, app_ids):
                    change = self._project(row)
                    changes += [(credential_id, change)] if change else []
            self._index()
        for credential_id, change in changes:
            self._tell(credential_id, change)

    def _project(self, row: SealedCredential) -> Change | None:
        known = self._entries.get(row.credential.id)
        paused = row.credential.state is CredentialState.PAUSED
        if known is None or known.sealed != row.sealed:
            self._entries[row.credential.id] = _Entry(row.credential, row.sealed, self._open(row), paused)
            return Change.ADDED if known is None else Change.REPLACED
        known.credential = row.credential
        if known.paused and not paused and (known.unsaved or known.saved_in >= self._reloads):
            return None
        was, known.paused = known.paused, paused
        if was and not paused:
            known.paused_bundles.clear()
        return None if was == paused else Change.PAUSED if paused else Change.RESUMED

    def _open(self, row: SealedCredential) -> Secret | None:
        credential = row.credential
        try:
            secret = secrets.load(self._vault.open(credential.app_id, credential.id, row.sealed))
            secrets.examine(secret)
        except (ConfigError, PushdError, ValueError) as error:
            log.error("credential_unusable", **_named(credential), reason=str(error))  # noqa: TRY400  one line says it
            return None
        return secret

    def _index(self) -> None:
        serving: dict[tuple[int, GatewayName, Environment], list[_Entry]] = {}
        for entry in self._entries.values():
            credential = entry.credential
            serving.setdefault((credential.app_id, credential.gateway, credential.environment), []).append(entry)
        self._serving = serving
        gateways: dict[int, set[GatewayName]] = {}
        for app_id, gateway, _ in serving:
            gateways.setdefault(app_id, set()).add(gateway)
        self._gateways = {app_id: frozenset(names) for app_id, names in gateways.items()}

    async def _save_pause(self, entry: _Entry, reason: str) -> None:
        credential = entry.credential
        try:
            # A secret that took its place meanwhile was not refused.
            paused = CredentialState.PAUSED
            await self._source.set_state(credential.app_id, credential.id, paused, reason, entry.sealed)
        except PushdError as error:
            log.warning("credential_pause_not_saved", **_named(credential), reason=error.detail)
            self.spawn(self._save_pause_later(entry, reason), "save-pause")
        else:
            entry.unsaved, entry.saved_in = False, self._reloads

    async def _save_pause_later(self, entry: _Entry, reason: str) -> None:
        await asyncio.sleep(SAVE_RETRY_S)
        if entry.unsaved and self._entries.get(entry.credential.id) is entry:
            await self._save_pause(entry, reason)

    def _tell(self, credential_id: int, change: Change) -> None:
        for listener in self._listeners:
            listener(credential_id, change)


def _rank(entry: _Entry, bundle: str) -> tuple[bool, bool, int]:
    usable = entry.state(bundle) is CredentialState.ACTIVE
    return usable, entry.secret is not None and bool(entry.secret.bundles), entry.credential.id


def _among(credential: Credential, app_ids: Collection[int] | None) -> bool:
    return app_ids is None or credential.app_id in app_ids


def _named(credential: Credential) -> dict[str, object]:
    return {"credential": credential.id, "app": credential.app_id, "gateway": credential.gateway.value}
