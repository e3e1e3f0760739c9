"""The local FCM is as strict as the vendor: accounts, paths, fields and their types, targets, sizes, quota."""

import asyncio
import ssl
import time

import aiohttp
import h2.config
import h2.connection
import h2.events
import jwt as pyjwt
import orjson
import pytest
import pytest_asyncio

from protocols import fcm, jwt, oauth2
from pushd.simulator.faults import Answer, Fault
from pushd.simulator.fcm import LocalFcm
from pushd.simulator.fcm_oauth import AUDIENCE, GRANT

pytestmark = pytest.mark.asyncio

TOKEN = "d3Fg_x:APA91b-" + "7" * 40
PATH = "/v1/projects/pushd-demo/messages:send"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("fcm")


@pytest_asyncio.fixture
async def local(directory):
    made = LocalFcm(directory)
    await made.start()
    yield made
    await made.stop()


def trust(local, alpn):
    context = ssl.create_default_context(cafile=local.ca_file)
    context.set_alpn_protocols([alpn])
    return context


async def ask_token(local, form):
    connector = aiohttp.TCPConnector(ssl=trust(local, "http/1.1"))
    url = f"https://localhost:{local.oauth_port}/token"
    async with aiohttp.ClientSession(connector=connector) as session, session.post(url, data=form) as response:
        return response.status, await response.json()


def claims(local, **changed):
    now = int(time.time())
    made = {"iss": local.account.client_email, "scope": fcm.OAUTH_SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    return {key: value for key, value in {**made, **changed}.items() if value is not None}


def signed(local, kid=None, algorithm="RS256", key=None, **changed):
    """An assertion made by PyJWT, which nobody here wrote."""
    headers = {"kid": kid or local.account.key_id}
    return pyjwt.encode(claims(local, **changed), key or local.key_file["private_key"], algorithm, headers=headers)


async def log_in(local):
    status, answer = await ask_token(local, {"grant_type": GRANT, "assertion": signed(local)})
    assert status == 200
    return answer["access_token"]


async def request(local, body, *, token=None, path=PATH, method="POST"):
    """Status and JSON of one request, by the h2 package."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", local.port, ssl=trust(local, "h2"), server_hostname="localhost"
    )
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
    if token is not None:
        fields.append(("authorization", token))
    connection.send_headers(1, [*fields, ("content-type", "application/json")])
    connection.send_data(1, body, end_stream=True)
    writer.write(connection.data_to_send())
    status, said, ended = 0, b"", False
    while not ended:
        for event in connection.receive_data(await asyncio.wait_for(reader.read(65_536), 60)):
            if isinstance(event, h2.events.ResponseReceived):
                status = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                said += event.data
            ended |= isinstance(event, h2.events.StreamEnded)
        writer.write(connection.data_to_send())
    writer.close()
    return status, said


async def send(local, content, *, target=None, **rest):
    body = {"message": {**({"token": TOKEN} if target is None else target), **content}}
    token = "Bearer " + await log_in(local)
    status, said = await request(local, orjson.dumps(body), token=token, **rest)
    return status, orjson.loads(said)


def codes(answer):
    """Status name, FcmError code and faulty field of an error body."""
    details = answer["error"]["details"]
    code = next((each["errorCode"] for each in details if each["@type"].endswith("FcmError")), None)
    fields = [each["field"] for one in details for each in one.get("fieldViolations", [])]
    return answer["error"]["status"], code, fields[0] if fields else None


async def test_a_message_is_taken_and_named(local):
    status, answer = await send(local, {"notification": {"title": "t"}, "android": {"ttl": "3.5s", "priority": "high"}})
    assert status == 200
    assert answer["name"].startswith("projects/pushd-demo/messages/")
    assert local.accepted == {TOKEN: 1}


async def test_both_spellings_of_a_name_are_taken(local):
    status, _ = await send(local, {"android": {"collapseKey": "a", "notification": {"channelId": "c"}}})
    assert status == 200
    assert local.pushes[-1].content["android"] == {"collapse_key": "a", "notification": {"channel_id": "c"}}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"unknown": 1}, "message"),
        ({"data": {"k": 7}}, "message.data"),
        ({"data": {"from": "x"}}, "message.data[from]"),
        ({"data": {"google.x": "x"}}, "message.data[google.x]"),
        ({"android": {"ttl": 60}}, "message.android.ttl"),
        ({"android": {"ttl": "60"}}, "message.android.ttl"),
        ({"android": {"ttl": "9999999s"}}, "message.android.ttl"),
        ({"android": {"priority": "urgent"}}, "message.android.priority"),
        ({"android": {"notification": {"color": "red"}}}, "message.android.notification.color"),
        ({"android": {"notification": {"notification_count": "3"}}}, "message.android.notification.notification_count"),
        ({"android": {"notification": {"vibrate_timings": ["x"]}}}, "message.android.notification.vibrate_timings[0]"),
        ({"android": {"notification": {"sticky": 1}}}, "message.android.notification.sticky"),
        ({"webpush": {"headers": {"TTL": 5}}}, "message.webpush.headers"),
        ({"webpush": {"fcm_options": {"link": "http://e.org"}}}, "message.webpush.fcm_options.link"),
        ({"apns": {"payload": "x"}}, "message.apns.payload"),
        ({"notification": "x"}, "message.notification"),
        ({"android": {"collapse_key": "a", "collapseKey": "b"}}, "message.android.collapse_key"),
    ],
)
async def test_every_field_has_its_type(local, content, field):
    status, answer = await send(local, content)
    assert status == 400
    assert (codes(answer)[0], codes(answer)[2]) == ("INVALID_ARGUMENT", field)
    assert not local.accepted


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ({}, "message"),
        ({"token": TOKEN, "topic": "news"}, "message"),
        ({"topic": "/topics/news"}, "message.topic"),
        ({"condition": "a && b"}, "message.condition"),
        ({"condition": " || ".join(["'t' in topics"] * 6)}, "message.condition"),
    ],
)
async def test_f11_exactly_one_sound_target(local, target, code):
    status, answer = await send(local, {}, target=target)
    assert (status, codes(answer)) == (400, ("INVALID_ARGUMENT", "INVALID_ARGUMENT", code))


async def test_a_token_that_is_none_is_blamed_in_googles_words(local):
    status, answer = await send(local, {}, target={"token": "short"})
    assert (status, codes(answer)) == (400, ("INVALID_ARGUMENT", "INVALID_ARGUMENT", None))
    assert "not a valid FCM registration token" in answer["error"]["message"]


@pytest.mark.parametrize(("target", "most"), [({"token": TOKEN}, 4096), ({"topic": "news"}, 2048)])
async def test_f16_sizes(local, target, most):
    fits, over = ({"data": {"k": "x" * size}} for size in (most - 1, most))
    assert (await send(local, fits, target=target))[0] == 200
    status, answer = await send(local, over, target=target)
    assert (status, answer["error"]["message"]) == (400, "Message is too big")


async def test_f17_validate_only_reaches_nobody(local):
    token = "Bearer " + await log_in(local)
    body = orjson.dumps({"validate_only": True, "message": {"topic": "news"}})
    status, _ = await request(local, body, token=token)
    assert (status, dict(local.accepted), dict(local.validated)) == (200, {}, {"news": 1})


@pytest.mark.parametrize("token", [None, "Bearer nonsense", "bearer", "Basic abc"])
async def test_f01_without_an_access_token_nothing_is_read(local, token):
    status, said = await request(local, b"{}", token=token)
    assert (status, codes(orjson.loads(said))) == (401, ("UNAUTHENTICATED", None, None))


async def test_an_access_token_ends(local):
    local.oauth.lifetime_s = 0
    token = "Bearer " + await log_in(local)
    assert (await request(local, b"{}", token=token))[0] == 401


async def test_paths_and_projects(local):
    token = "Bearer " + await log_in(local)
    body = orjson.dumps({"message": {"token": TOKEN}})
    status, said = await request(local, body, token=token, path="/v1/projects/nobody-here/messages:send")
    assert (status, codes(orjson.loads(said))) == (404, ("NOT_FOUND", None, None))
    status, said = await request(local, body, token=token, path="/fcm/send")
    assert (status, said[:9]) == (404, b"<!DOCTYPE")
    assert (await request(local, body, token=token, method="PUT"))[0] == 404
    local.oauth.account("other-project")
    status, said = await request(local, body, token=token, path="/v1/projects/other-project/messages:send")
    assert (status, codes(orjson.loads(said))[0]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"message":[]}', b'{"messages":{}}', b'{"validate_only":1}'])
async def test_bodies_that_are_none(local, body):
    token = "Bearer " + await log_in(local)
    status, said = await request(local, body, token=token)
    assert (status, codes(orjson.loads(said))[0]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://example.com/token"},
        {"iss": "nobody@pushd-demo.iam.gserviceaccount.com"},
        {"scope": "https://www.googleapis.com/auth/drive"},
        {"exp": int(time.time()) + 9_000},
        {"iat": int(time.time()) + 4_000, "exp": int(time.time()) + 7_000},
        {"iat": int(time.time()) - 9_000, "exp": int(time.time()) - 6_000},
        {"kid": "another"},
        {"iat": None},
        {"algorithm": "HS256", "key": "x" * 32},
    ],
)
async def test_f01_assertions_that_google_would_refuse(local, changed):
    status, answer = await ask_token(local, {"grant_type": GRANT, "assertion": signed(local, **changed)})
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_f01_our_own_assertion_is_taken_and_other_grants_are_not(local):
    made = oauth2.assertion(
        jwt.load_rsa(local.key_file["private_key"]),
        key_id=local.account.key_id,
        issuer=local.account.client_email,
        audience=fcm.OAUTH_AUDIENCE,
        scope=fcm.OAUTH_SCOPE,
        now=time.time(),
    )
    status, answer = await ask_token(local, {"grant_type": GRANT, "assertion": made.decode()})
    assert (status, answer["token_type"]) == (200, "Bearer")
    status, answer = await ask_token(local, {"grant_type": "password"})
    assert (status, answer["error"]) == (400, "unsupported_grant_type")


async def test_a_quota_is_kept_by_the_minute(local):
    local.quota_per_minute = 2
    token = "Bearer " + await log_in(local)
    body = orjson.dumps({"message": {"token": TOKEN}})
    statuses = [(await request(local, body, token=token))[0] for _ in range(4)]
    assert statuses in ([200, 200, 429, 429], [200, 200, 429, 200])


async def test_faults_speak_googles_words(local):
    local.faults.add(Fault(action=Answer(reason="UNREGISTERED"), tokens=[TOKEN]))
    status, answer = await send(local, {})
    assert (status, codes(answer)) == (404, ("NOT_FOUND", "UNREGISTERED", None))


async def test_the_key_file_stays_the_same(local, directory):
    again = LocalFcm(directory)
    assert again.key_file == local.key_file
    assert local.key_file["type"] == "service_account"
