"""Apps, keys and credentials over HTTP, on a real PostgreSQL."""

import asyncio
import re
import secrets
import socket
from types import SimpleNamespace

import aiohttp
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pushd.api import apps, credentials, keys
from pushd.api.serve import Api
from pushd.commands.context import Context
from pushd.commands.definitions import Definitions
from pushd.config import Config, HttpConfig
from pushd.credentials.keyring import Keyring
from pushd.credentials.vault import Vault
from pushd.inbox.catalogue import Catalogue
from pushd.model.app import Role
from pushd.model.credential import CredentialState
from pushd.model.device import Environment, Kind, Route
from pushd.store.store import Store
from pushd.targeting.index import Index
from pushd.web.auth import Authenticator
from pushd.web.cursor import Cursors
from pushd.web.router import Router
from pushd.web.server import HttpServer

from .conftest import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Fanout:
    """Counts the one thing that these commands tell it."""

    def __init__(self):
        self.told = 0

    def credentials_changed(self):
        self.told += 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(module_dsn):
    config = Config()
    store = Store(config.store, module_dsn)
    await store.start()
    vault = Vault(secrets.token_bytes(32))
    keyring = Keyring(store.credentials, vault)
    await keyring.start()
    index = Index()
    context = Context(
        store=store,
        index=index,
        definitions=Definitions(store, index),
        keyring=keyring,
        vault=vault,
        gateways={},
        fanout=Fanout(),
        inbox=Catalogue(store.in_app, Config().inbox, store.clock),
        clock=store.clock,
        config=config,
        node_id=1,
    )
    router = Router()
    api = Api(context, Authenticator(store.keys, 10_000), Cursors(b"k" * 32), config.http)
    api.mount(router, (*apps.OPERATIONS, *keys.OPERATIONS, *credentials.OPERATIONS))
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = HttpServer(HttpConfig(stop_timeout_s=1), router, plain_socket=sock)
    await server.start()
    _, admin = await store.keys.create(None, Role.ADMIN, "first")
    async with aiohttp.ClientSession() as session:
        call = Client(session, f"http://127.0.0.1:{server.port}/pushd/v1")
        yield SimpleNamespace(call=call, admin=admin, context=context, server=server)
    await server.stop()
    await keyring.stop()
    await store.stop()


async def tenant(world, name="Orchard"):
    """An app, and a server and a device key of it."""
    status, _, app = await world.call("POST", "/apps", key=world.admin, json={"name": name})
    assert status == 201
    made = []
    for role in ("server", "device"):
        status, _, body = await world.call("POST", "/keys", key=world.admin, app=app["id"], json={"role": role})
        assert status == 201
        made.append(body["secret"])
    return app, *made


def p8():
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def upload(pem, **more):
    secret = {"type": "apns_token", "team_id": "ABCDE12345", "key_id": "KEY1234567", "private_key": pem}
    return {"secret": secret, **more}


async def test_an_app_is_made_changed_listed_and_deleted(world):
    settings = {
        "default_title": "Hello",
        "time_zone": "Europe/Berlin",
        "default_ttl_s": 86_400,
        "quiet_hours": {"from_minute": 1320, "to_minute": 420},
        "caps": {"offers": {"messages": 3, "window_s": 604_800}},
    }
    status, _, app = await world.call("POST", "/apps", key=world.admin, json={"name": "One", "settings": settings})
    assert (status, app["name"], app["settings"]) == (201, "One", settings)
    path = f"/apps/{app['id']}"
    assert (await world.call("GET", path, key=world.admin))[2] == app
    status, _, changed = await world.call("PATCH", path, key=world.admin, json={"name": "Two"})
    assert (status, changed["name"], changed["settings"]) == (200, "Two", settings)
    status, _, changed = await world.call("PATCH", path, key=world.admin, json={"settings": {"locale": "de"}})
    assert (changed["name"], changed["settings"]) == ("Two", {"locale": "de"})
    seen, cursor = [], None
    while cursor is not None or not seen:
        parameters = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        _, _, page = await world.call("GET", "/apps", key=world.admin, params=parameters)
        seen += page["items"]
        cursor = page["next"]
    assert changed in seen
    assert (await world.call("DELETE", path, key=world.admin))[0] == 204
    for method in ("GET", "DELETE"):
        assert (await world.call(method, path, key=world.admin))[0] == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x", "settings": {"time_zone": "Mars/Olympus"}}, "/settings/time_zone"),
        ({"name": "x", "settings": {"colour": "red"}}, "/settings/colour"),
        (
            {"name": "x", "settings": {"quiet_hours": {"from_minute": 9, "to_minute": 9}}},
            "/settings/quiet_hours/to_minute",
        ),
        ({"name": "x", "settings": {"caps": {"": {"messages": 1, "window_s": 60}}}}, "/settings/caps"),
        ({"name": "x", "settings": {"caps": {"a": {"messages": 101, "window_s": 60}}}}, "/settings/caps"),
        ({"name": "x", "settings": {"default_ttl_s": 2_419_201}}, "/settings/default_ttl_s"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "x", "settings": {"icon": "\0"}}, "/settings/icon"),
    ],
)
async def test_what_is_wrong_with_an_app_is_pointed_at(world, body, pointer):
    status, _, problem = await world.call("POST", "/apps", key=world.admin, json=body)
    assert (status, [fault["pointer"] for fault in problem["errors"]]) == (400, [pointer])


async def test_a_tenant_sees_its_own_app_and_no_other(world):
    mine, server, device = await tenant(world)
    other, *_ = await tenant(world, "Other")
    assert (await world.call("GET", f"/apps/{mine['id']}", key=server))[2] == mine
    assert (await world.call("PATCH", f"/apps/{mine['id']}", key=server, json={"name": "Mine"}))[0] == 200
    theirs = await world.call("GET", f"/apps/{other['id']}", key=server)
    nobodys = await world.call("GET", "/apps/2147483647", key=server)
    assert theirs[0] == nobodys[0] == 404
    assert theirs[2] == nobodys[2]
    assert (await world.call("PATCH", f"/apps/{other['id']}", key=server, json={"name": "x"}))[0] == 404
    for method, path, key in (
        ("GET", "/apps", server), ("POST", "/apps", server), ("DELETE", f"/apps/{mine['id']}", server),
        ("GET", f"/apps/{mine['id']}", device), ("GET", "/keys", device), ("GET", "/credentials", device),
    ):  # fmt: skip
        assert (await world.call(method, path, key=key, json={} if method == "POST" else None))[0] == 403


async def test_a_key_is_shown_once_works_and_is_revoked(world):
    app, server, _ = await tenant(world)
    status, _, made = await world.call("POST", "/keys", key=server, json={"role": "server", "name": "CI"})
    assert (status, made["key"]["name"], made["key"]["app_id"]) == (201, "CI", app["id"])
    assert re.fullmatch(r"pushd_server_[A-Za-z0-9_-]{43}", made["secret"])
    _, _, page = await world.call("GET", "/keys", key=made["secret"])
    assert made["key"] in page["items"]
    assert made["secret"] not in str(page)
    path = f"/keys/{made['key']['id']}/revoke"
    assert (await world.call("POST", path, key=made["secret"]))[0] == 409
    status, _, revoked = await world.call("POST", path, key=server)
    assert (status, revoked["id"]) == (200, made["key"]["id"])
    assert revoked["revoked_at"] > 0
    assert (await world.call("GET", "/keys", key=made["secret"]))[0] == 401
    assert (await world.call("POST", path, key=server))[2] == revoked


async def test_keys_have_their_place(world):
    app, server, _ = await tenant(world)
    _, other_server, _ = await tenant(world, "Other")
    status, _, problem = await world.call("POST", "/keys", key=server, json={"role": "admin"})
    assert (status, problem["errors"][0]["pointer"]) == (400, "/role")
    assert (await world.call("POST", "/keys", key=world.admin, json={"role": "server"}))[0] == 400
    status, _, made = await world.call("POST", "/keys", key=world.admin, json={"role": "admin"})
    assert (status, made["key"]["app_id"]) == (201, None)
    _, _, page = await world.call("GET", "/keys", key=made["secret"])
    assert {key["role"] for key in page["items"]} == {"admin"}
    _, _, page = await world.call("GET", "/keys", key=server)
    assert {key["app_id"] for key in page["items"]} == {app["id"]}
    for key in page["items"]:
        assert (await world.call("POST", f"/keys/{key['id']}/revoke", key=other_server))[0] == 404
    assert (await world.call("GET", "/keys", key=server))[0] == 200


async def test_keys_go_with_their_app(world):
    app, server, device = await tenant(world)
    assert (await world.call("GET", "/keys", key=server))[0] == 200
    assert (await world.call("DELETE", f"/apps/{app['id']}", key=world.admin))[0] == 204
    world.context.store.keys.forget()  # what the change feed does
    for key in (server, device):
        assert (await world.call("GET", "/keys", key=key))[0] == 401


async def test_a_credential_is_sealed_used_replaced_and_deleted(world):
    app, server, _ = await tenant(world)
    keyring, route = world.context.keyring, Route(app["id"], Kind.APNS, Environment.PRODUCTION, "com.example.a")
    pem, told = p8(), world.context.fanout.told
    status, _, made = await world.call("POST", "/credentials", key=server, json=upload(pem, name="Team key"))
    assert (status, made["state"], made["gateway"], made["environment"]) == (201, "active", "apns", "production")
    assert (made["summary"]["team_id"], made["summary"]["key_id"]) == ("ABCDE12345", "KEY1234567")
    assert keyring.find(route) == made["id"]
    assert keyring.secret(made["id"]).private_key == pem
    assert world.context.fanout.told > told
    path = f"/credentials/{made['id']}"
    _, _, page = await world.call("GET", "/credentials", key=server)
    assert page["items"] == [made]
    for _, _, body in (await world.call("GET", path, key=server), (None, None, page), (None, None, made)):
        assert "PRIVATE" not in str(body)
        assert "secret" not in str(body)
    (row,) = [one for one in await world.context.store.credentials.load_active() if one.credential.id == made["id"]]
    assert pem.splitlines()[1].encode() not in row.sealed

    await keyring.pause(made["id"], "InvalidProviderToken")
    _, _, shown = await world.call("GET", path, key=server)
    assert (shown["state"], shown["paused_reason"]) == ("paused", "InvalidProviderToken")
    other = p8()
    status, _, replaced = await world.call("PUT", path, key=server, json=upload(other))
    assert (status, replaced["state"], replaced["name"]) == (200, "active", "Team key")
    assert keyring.secret(made["id"]).private_key == other
    assert keyring.state(made["id"]) is CredentialState.ACTIVE

    assert (await world.call("DELETE", path, key=server))[0] == 204
    assert keyring.find(route) is None
    assert (await world.call("GET", path, key=server))[0] == 404
    assert (await world.call("PUT", path, key=server, json=upload(other)))[0] == 404


async def test_a_credential_is_paused_and_resumed(world):
    _, server, _ = await tenant(world)
    _, _, made = await world.call("POST", "/credentials", key=server, json=upload(p8()))
    path, keyring = f"/credentials/{made['id']}", world.context.keyring
    status, _, paused = await world.call("POST", path + "/pause", key=server)
    assert (status, paused["state"], paused["paused_reason"]) == (200, "paused", "paused by request")
    assert keyring.state(made["id"]) is CredentialState.PAUSED
    status, _, resumed = await world.call("POST", path + "/resume", key=server)
    assert (status, resumed["state"], resumed["paused_reason"]) == (200, "active", None)
    assert keyring.state(made["id"]) is CredentialState.ACTIVE


async def test_credentials_are_one_per_name_and_place(world):
    _, server, _ = await tenant(world)
    assert (await world.call("POST", "/credentials", key=server, json=upload(p8())))[0] == 201
    assert (await world.call("POST", "/credentials", key=server, json=upload(p8())))[0] == 409
    sandbox = upload(p8(), environment="sandbox")
    assert (await world.call("POST", "/credentials", key=server, json=sandbox))[0] == 201


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"private_key": "not a key"}, "/secret/private_key"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"}, "/secret/private_key"),
        ({"team_id": "short"}, "/secret/team_id"),
        ({"key_id": None}, "/secret/key_id"),
        ({"type": "carrier_pigeon"}, "/secret/type"),
        ({"extra": 1}, "/secret/extra"),
    ],
)
async def test_a_secret_that_cannot_be_used_is_refused_and_not_repeated(world, change, pointer):
    _, server, _ = await tenant(world)
    body = upload(p8())
    body["secret"] |= change
    status, _, problem = await world.call("POST", "/credentials", key=server, json=body)
    assert (status, [fault["pointer"] for fault in problem["errors"]]) == (400, [pointer])
    assert "AAAA" not in str(problem)
    assert body["secret"]["private_key"].splitlines()[-1] not in str(problem)


async def test_another_tenants_credential_is_not_there(world):
    _, server, _ = await tenant(world)
    _, other_server, _ = await tenant(world, "Other")
    _, _, made = await world.call("POST", "/credentials", key=server, json=upload(p8()))
    path = f"/credentials/{made['id']}"
    tries = [
        ("GET", path, None), ("PUT", path, upload(p8())), ("DELETE", path, None),
        ("POST", path + "/pause", None), ("POST", path + "/resume", None),
    ]  # fmt: skip
    answers = await asyncio.gather(
        *(world.call(method, target, key=other_server, json=body) for method, target, body in tries)
    )
    assert [status for status, _, _ in answers] == [404] * 5
    assert (await world.call("GET", path, key=server))[2]["state"] == "active"
