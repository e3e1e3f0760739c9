"""The keyring: which credential serves a route, pausing, and staying true to the store."""

import asyncio
from dataclasses import dataclass, replace

import msgspec
import pytest
from structlog.testing import capture_logs

from pushd.credentials import keyring as module
from pushd.credentials import secrets
from pushd.credentials.keyring import Change, Keyring
from pushd.credentials.vault import Vault
from pushd.errors import NotFoundError, UnavailableError
from pushd.model.credential import ApnsToken, Credential, CredentialState
from pushd.model.device import Environment, GatewayName, Kind, Route
from tests.pushd.credentials.conftest import new_secret

ACTIVE, PAUSED = CredentialState.ACTIVE, CredentialState.PAUSED
SECRETS = [new_secret(f"KEY000000{at}") for at in range(3)]


@dataclass(frozen=True)
class Row:
    credential: Credential
    sealed: bytes


class Source:
    """Credentials of a store that can be away, or slow to answer."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.rows: dict[int, Row] = {}
        self.away = False
        self.saved: list[tuple[int, CredentialState, str | None]] = []
        self.hold: asyncio.Event | None = None

    def put(self, id_, secret=None, *, app=1, environment=Environment.PRODUCTION, topics=(), state=ACTIVE) -> None:
        secret = secret or SECRETS[0]
        secret = msgspec.structs.replace(secret, topics=list(topics))
        credential = Credential(
            id=id_,
            app_id=app,
            gateway=GatewayName.APNS,
            environment=environment,
            name="n",
            summary={},
            state=state,
            paused_reason=None,
            created_at=0.0,
            updated_at=0.0,
        )
        self.rows[id_] = Row(credential, self.vault.seal(app, id_, secrets.dump(secret)))

    async def load_active(self):
        rows = list(self.rows.values())
        if self.hold is not None:
            await self.hold.wait()
        return rows

    async def set_state(self, app_id, credential_id, state, reason, sealed=None):
        if self.away:
            raise UnavailableError("PostgreSQL is away")
        self.saved.append((credential_id, state, reason))
        row = self.rows.get(credential_id)
        if row is None or row.credential.app_id != app_id or sealed not in (None, row.sealed):
            return None
        credential = msgspec.structs.replace(row.credential, state=state, paused_reason=reason)
        self.rows[credential_id] = replace(row, credential=credential)
        return credential


@pytest.fixture
def source() -> Source:
    return Source(Vault(bytes(32)))


@pytest.fixture
def ring(source) -> Keyring:
    return Keyring(source, Vault(bytes(32)))


def route(bundle="com.a", *, app=1, kind=Kind.APNS, environment=Environment.PRODUCTION) -> Route:
    return Route(app, kind, environment, bundle)


def heard(ring: Keyring) -> list[tuple[int, Change]]:
    changes: list[tuple[int, Change]] = []
    ring.listen(lambda credential_id, change: changes.append((credential_id, change)))
    return changes


@pytest.mark.asyncio
async def test_a18_a_topic_specific_key_beats_a_team_scoped_one(ring, source):
    source.put(1, topics=["com.a", "com.b"])
    source.put(2)
    await ring.start()
    assert ring.find(route("com.a")) == 1
    assert ring.find(route("com.b", kind=Kind.APNS_VOIP)) == 1
    assert ring.find(route("com.c")) == 2


@pytest.mark.asyncio
async def test_a18_app_gateway_and_environment_must_fit(ring, source):
    source.put(1)
    source.put(2, environment=Environment.SANDBOX)
    source.put(3, topics=["com.z"], app=2)
    await ring.start()
    assert ring.find(route()) == 1
    assert ring.find(route(environment=Environment.SANDBOX)) == 2
    assert ring.find(route(app=2)) is None
    assert ring.find(route("com.z", app=2)) == 3
    assert ring.find(route(kind=Kind.FCM)) is None
    assert ring.unresolved([route(), route(app=2), route(kind=Kind.FCM)]) == [route(app=2), route(kind=Kind.FCM)]


@pytest.mark.asyncio
async def test_the_newest_usable_key_serves(ring, source):
    source.put(1)
    source.put(2, SECRETS[1])
    source.put(3, SECRETS[2], topics=["com.a"])
    await ring.start()
    assert ring.find(route()) == 3
    await ring.pause(3, "refused")
    assert ring.find(route()) == 2
    await ring.pause(2, "refused")
    assert ring.find(route()) == 1
    await ring.pause(1, "refused")
    assert ring.find(route()) == 3, "when none may be used, messages wait for the one that fits best"
    assert ring.state(3) is PAUSED


@pytest.mark.asyncio
async def test_secrets_are_open_in_memory(ring, source):
    source.put(1)
    await ring.start()
    assert isinstance(ring.secret(1), ApnsToken)
    assert ring.secret(1) == SECRETS[0]
    assert ring.secret(9) is None
    assert ring.state(9) is None


@pytest.mark.asyncio
async def test_g07_a_pause_is_told_once_saved_and_undone(ring, source):
    source.put(1)
    await ring.start()
    changes = heard(ring)
    with capture_logs() as logs:
        await asyncio.gather(*(ring.pause(1, "InvalidProviderToken") for _ in range(50)))
        await ring.pause(9, "gone")
    assert [entry["event"] for entry in logs] == ["credential_paused"]
    assert ring.state(1) is PAUSED
    assert source.saved == [(1, PAUSED, "InvalidProviderToken")]
    await ring.resume(1)
    assert ring.state(1) is ACTIVE
    assert source.saved[-1] == (1, ACTIVE, None)
    assert changes == [(1, Change.PAUSED), (1, Change.RESUMED)]


@pytest.mark.asyncio
async def test_a_paused_topic_leaves_the_others_alone(ring, source):
    source.put(1)
    await ring.start()
    changes = heard(ring)
    await ring.pause(1, "TopicDisallowed", "com.bad")
    await ring.pause(1, "TopicDisallowed", "com.bad")
    assert ring.state(1, "com.bad") is PAUSED
    assert ring.state(1, "com.a") is ACTIVE
    assert ring.state(1) is ACTIVE
    assert source.saved == []
    await ring.resume(1)
    assert ring.state(1, "com.bad") is ACTIVE
    assert changes == [(1, Change.PAUSED), (1, Change.RESUMED)]


@pytest.mark.asyncio
async def test_resume_of_what_is_gone(ring, source):
    source.put(1)
    await ring.start()
    del source.rows[1]
    for credential_id in (1, 9):
        with pytest.raises(NotFoundError):
            await ring.resume(credential_id)


@pytest.mark.asyncio
async def test_a_pause_holds_while_the_store_is_away_and_is_saved_when_it_is_back(ring, source, monkeypatch):
    monkeypatch.setattr(module, "SAVE_RETRY_S", 0.001)
    source.put(1)
    await ring.start()
    source.away = True
    await ring.pause(1, "refused")
    await asyncio.sleep(0.01)
    assert ring.state(1) is PAUSED
    await ring.reload()
    assert ring.state(1) is PAUSED, "the store does not know of the pause yet"
    source.away = False
    for _ in range(500):
        if source.saved:
            break
        await asyncio.sleep(0.002)
    assert source.saved == [(1, PAUSED, "refused")]
    source.put(1, state=ACTIVE)
    source.rows[1] = replace(source.rows[1], sealed=ring._entries[1].sealed)
    await ring.reload()
    assert ring.state(1) is ACTIVE, "once saved, what the store says holds: another node resumed it"
    await ring.stop()


@pytest.mark.asyncio
async def test_a_reload_that_began_before_a_pause_does_not_undo_it(ring, source):
    source.put(1)
    await ring.start()
    source.hold = asyncio.Event()
    reload = asyncio.create_task(ring.reload())
    await asyncio.sleep(0)
    await ring.pause(1, "refused")
    source.hold.set()
    await reload
    assert ring.state(1) is PAUSED
    source.hold = None
    await ring.reload()
    assert ring.state(1) is PAUSED


@pytest.mark.asyncio
async def test_a06_reload_tells_what_changed(ring, source):
    source.put(1)
    source.put(2, app=2)
    await ring.start()
    changes = heard(ring)
    await ring.reload()
    assert changes == []
    source.put(1, SECRETS[1])
    source.put(3)
    del source.rows[2]
    await ring.reload([1])
    assert sorted(changes) == [(1, Change.REPLACED), (3, Change.ADDED)]
    assert ring.secret(1).key_id == SECRETS[1].key_id
    assert ring.state(2) is ACTIVE, "another app's credentials were not asked for"
    await ring.reload()
    assert changes[2:] == [(2, Change.REMOVED)]
    assert ring.find(route(app=2)) is None


@pytest.mark.asyncio
async def test_pauses_of_another_node_arrive_by_reload(ring, source):
    source.put(1)
    await ring.start()
    changes = heard(ring)
    for state in (PAUSED, ACTIVE):
        await source.set_state(1, 1, state, None)
        await ring.reload([1])
        assert ring.state(1) is state
    assert changes == [(1, Change.PAUSED), (1, Change.RESUMED)]


@pytest.mark.asyncio
async def test_a_new_secret_lifts_a_pause(ring, source):
    source.put(1)
    await ring.start()
    await ring.pause(1, "refused")
    await ring.pause(1, "TopicDisallowed", "com.a")
    source.put(1, SECRETS[1])
    await ring.reload()
    assert ring.state(1, "com.a") is ACTIVE


@pytest.mark.asyncio
async def test_g07_a_refusal_that_comes_late_says_nothing_of_the_next_secret(ring, source):
    source.put(1)
    await ring.start()
    refused = ring.secret(1)
    source.put(1, SECRETS[1])  # committed: this ring has not heard of it
    await ring.pause(1, "refused", secret=refused)
    await ring.reload()
    assert ring.state(1) is ACTIVE
    await ring.pause(1, "refused", secret=refused)
    await ring.reload()
    assert ring.state(1) is ACTIVE


@pytest.mark.asyncio
async def test_g09_what_cannot_be_opened_holds_its_messages_and_is_named(ring, source):
    source.put(1)
    source.rows[1] = replace(source.rows[1], sealed=Vault(b"x" * 32).seal(1, 1, secrets.dump(SECRETS[0])))
    source.put(2, app=2)
    source.rows[2] = replace(source.rows[2], sealed=source.vault.seal(2, 2, b'{"type":"from-the-future"}'))
    source.put(3, msgspec.structs.replace(SECRETS[0], private_key="canary"), app=3)
    with capture_logs() as logs:
        await ring.start()
    assert [entry["event"] for entry in logs] == ["credential_unusable"] * 3
    assert "canary" not in str(logs)
    for id_ in (1, 2, 3):
        assert ring.find(route(app=id_)) == id_
        assert ring.state(id_) is PAUSED
        assert ring.secret(id_) is None
    source.put(1)
    await ring.reload()
    assert ring.state(1) is ACTIVE
