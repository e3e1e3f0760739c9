"""`pushd import --from`: exports of other services become devices, users, channels and subscriptions, row by row."""

from __future__ import annotations

import base64

import orjson
import pytest

from tests.acceptance.commands import pushd
from tests.acceptance.test_imports import count
from tests.acceptance.test_imports_records import state
from tests.acceptance.world import BUNDLE, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="package")

P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
"""The keys of RFC 8291, section 5."""
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/"
FCM = "dGhpcy1pcy1uby1yZWFsLXRva2Vu:APA91b"


class Moved:
    """What the app has after an import."""

    def __init__(self, tenant: Tenant, view) -> None:
        self.tenant, self.view = tenant, view

    async def device(self, install_id: str):
        (found,) = (await self.tenant.server.ok("GET", f"/devices?install_id={install_id}"))["items"]
        return found

    async def user(self, name: str):
        return await self.tenant.server.ok("GET", f"/users/{name}")

    async def channels(self, install_id: str):
        found = await self.tenant.server.ok("GET", f"/installs/{install_id}/channels")
        return [each["uuid"] for each in found["items"]]


async def move(tenant: Tenant, tmp_path, service: str, name: str, content, *options: str) -> Moved:
    """What came of a file."""
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    view = await pushd(tenant.server, "import", "--from", service, str(file), *options)
    return Moved(tenant, view)


async def test_connectycube(tenant: Tenant, tmp_path):
    people = [
        {
            "current_page": page,
            "per_page": 2,
            "total_entries": 3,
            "items": [
                {
                    "user": {
                        "id": 271 + 2 * page + at,
                        "full_name": f"User {at}",
                        "external_user_id": name,
                        "email": None,
                    }
                    | {"user_tags": "vip,beta", "login": f"l{page}{at}", "custom_data": None, "avatar": ""}
                }
                for at, name in enumerate(names)
            ],
        }
        for page, names in enumerate((["ada", None], ["eve"]))
    ]
    pages = "\n".join(orjson.dumps(each).decode() for each in people)
    moved = await move(tenant, tmp_path, "connectycube", "users.ndjson", pages)
    assert (moved.view["rows"], moved.view["rejected"]) == (3, 0), moved.view
    ada = await moved.user("ada")
    assert (ada["tags"], ada["attributes"]) == (["beta", "vip"], {"full_name": "User 0", "login": "l00"})
    assert (await moved.user("connectycube:272"))["tags"] == ["beta", "vip"]
    apple = tenant.token()
    rows = [
        ("apns", "ios", "development", apple.upper(), 271, "A"),
        ("apns_voip", "ios", "production", base64.b64encode(bytes.fromhex(tenant.token())).decode(), 271, "A"),
        ("gcm", "android", "production", FCM, 272, "B"),
        ("sms", "android", "production", FCM, 272, "B"),
    ]
    subscriptions = [
        {
            "subscription": {
                "id": number,
                "user_id": user,
                "notification_channel": {"name": channel},
                "device": {"udid": udid, "platform": {"name": platform}},
                "push_token": {
                    "environment": environment,
                    "client_identification_sequence": token,
                    "bundle_identifier": BUNDLE,
                },
            }
        }
        for number, (channel, platform, environment, token, user, udid) in enumerate(rows, 50)
    ]
    web = {"web_endpoint": f"{ENDPOINT}cube", "web_p256dh": P256DH, "web_auth": AUTH, "environment": "production"}
    subscriptions.append(
        {"subscription": {"notification_channel": "web", "push_token": web, "device": {"udid": "C", "platform": "web"}}}
    )
    # As `GET /subscriptions` answers it: without a token.
    subscriptions.append(
        {"subscription": {"id": 9, "notification_channel": {"name": "apns"}, "device": {"udid": "D"}, "user_id": 273}}
    )
    content = orjson.dumps(subscriptions, option=orjson.OPT_INDENT_2)
    users = tmp_path / "users.ndjson"
    moved = await move(
        tenant, tmp_path, "connectycube", "s.json", content, "--users", str(users), "--set", f"bundle={BUNDLE}"
    )
    assert (moved.view["rows"], moved.view["rejected"]) == (6, 1), moved.view
    assert moved.view["rejects"][0]["column"] == "subscription.notification_channel.name"
    first, second = (await tenant.server.ok("GET", "/devices?install_id=A"))["items"]
    assert [(each["kind"], each["environment"], each["user_id"]) for each in (first, second)] == [
        ("apns", "sandbox", "ada"),
        ("apns_voip", "production", "ada"),
    ]
    assert (first["token_hint"], first["platform"]) == (apple[-4:], "ios")
    assert (await moved.device("B"))["user_id"] == "connectycube:272"
    assert (await moved.device("C"))["kind"] == "webpush"
    silent = await moved.device("D")
    assert (silent["reachable"], silent["token_hint"], silent["user_id"]) == (False, "", "eve")
    assert await count(tenant, {"type": "tags", "any": ["vip"], "of": "user"}) == 2


async def test_kumulos(tenant: Tenant, tmp_path):
    channels = [{"uuid": "news", "name": "News", "showInPortal": True, "meta": {"a": 1}, "id": 7, "appId": 1}]
    moved = await move(tenant, tmp_path, "kumulos", "channels.json", orjson.dumps(channels))
    assert moved.view["rejected"] == 0
    token = tenant.token()
    installs = [
        {"installId": "I-1", "userIdentifier": "ada", "pushToken": token, "platformType": 1, "iosTokenType": 2}
        | {"bundleId": BUNDLE, "device": {"tz": "Europe/London", "locale": "en_GB"}, "app": {"version": "1.2"}}
        | {"channels": [{"uuid": "news", "name": "News"}], "userAttributes": {"plan": "pro"}, "tags": ["x"]},
        {
            "installId": "i-2",
            "userId": "i-2",
            "token": FCM,
            "type": 2,
            "package": "com.example",
            "notificationsEnabled": False,
        },
        {
            "type": "k.push.deviceRegistered",
            "installId": "i-3",
            "userId": "eve",
            "uuid": "0b9d",
            "data": {
                "type": 3,
                "token": {"endpoint": f"{ENDPOINT}k", "expirationTime": None, "keys": {"p256dh": P256DH, "auth": AUTH}},
            },
        },
        {"type": "k.stats.userAssociated", "installId": "i-3", "data": {"id": "eve", "attributes": {"level": 3}}},
        {"type": "k.fg", "installId": "i-3", "data": {}},
        {"installId": "i-4", "pushToken": "x", "platformType": 9},
    ]
    moved = await move(tenant, tmp_path, "kumulos", "installs.json", orjson.dumps(installs))
    assert (moved.view["rows"], moved.view["rejected"]) == (6, 2), moved.view
    assert [each["column"] for each in moved.view["rejects"]] == ["type", "platformType"]
    first = await moved.device("I-1")
    assert (first["kind"], first["environment"], first["user_id"]) == ("apns", "sandbox", "ada")
    assert (first["time_zone"], first["locale"], first["app_version"], first["tags"]) == (
        *("Europe/London", "en_GB", "1.2"),
        ["x"],
    )
    assert (await moved.user("ada"))["attributes"] == {"plan": "pro"}
    assert await moved.channels("I-1") == ["news"]
    second = await moved.device("i-2")
    assert (second["kind"], second["user_id"], second["push_enabled"]) == ("fcm", None, False)
    assert (await moved.device("i-3"))["user_id"] == "eve"
    assert (await moved.user("eve"))["attributes"] == {"level": 3}
    subscriptions = "InstallId,ChannelUuid\ni-2,news\nnobody,news\ni-3,sports\n"
    moved = await move(tenant, tmp_path, "kumulos", "subs.csv", subscriptions, "--no-create-channels")
    assert [(each["line"], each["reason"]) for each in moved.view["rejects"]] == [
        (3, "is no install of the app"),
        (4, "there is no channel sports"),
    ]
    assert await moved.channels("i-2") == ["news"]
    moved = await move(tenant, tmp_path, "kumulos", "members.csv", "userId;channelUuid\nada;sports\n")
    assert [each["uuid"] for each in (await tenant.server.ok("GET", "/users/ada/channels"))["items"]] == ["sports"]


async def test_backendless(tenant: Tenant, tmp_path):
    users = "objectId,email,name,age,created,password,___class\nU-1,ada@example.com,Ada,36,1700000000000,secret,Users\n"
    moved = await move(tenant, tmp_path, "backendless", "Users.csv", users)
    ada = await moved.user("U-1")
    assert (ada["email"], ada["attributes"]) == ("ada@example.com", {"name": "Ada", "age": 36})
    token = tenant.token()
    header = (
        "objectId,deviceId,deviceToken,operatingSystemName,operatingSystemVersion,channelName,expiration,user,ownerId\n"
    )
    table = (
        f"R-1,d-1,{FCM}b,ANDROID,14,default,null,null,U-1\n"
        f"R-2,d-1,{FCM}b,ANDROID,14,offers,null,null,U-1\n"
        f"R-3,d-2,{token},IOS,17.2,default,null,U-2,U-9\n"
        "R-4,d-3,tok,WP,8,default,null,null,null\n"
    )
    options = ("--set", f"bundle={BUNDLE}", "--set", "environment=development")
    moved = await move(tenant, tmp_path, "backendless", "DeviceRegistration.csv", header + table, *options)
    assert (moved.view["rows"], moved.view["rejected"]) == (4, 1), moved.view
    assert moved.view["rejects"] == [
        {"line": 5, "column": "operatingSystemName", "reason": "devices of wp cannot be reached"}
    ]
    first, second = await moved.device("d-1"), await moved.device("d-2")
    assert (first["kind"], first["platform"], first["user_id"], first["os_version"]) == ("fcm", "android", "U-1", "14")
    assert (second["kind"], second["environment"], second["user_id"]) == ("apns", "sandbox", "U-2")
    assert await moved.channels("d-1") == ["default", "offers"]
    data = [
        {"deviceId": "d-4", "deviceToken": f"{FCM}c", "os": "ANDROID", "channels": ["default"], "expiration": None}
        | {"user": {"objectId": "U-1", "email": "x"}, "objectId": "R-9", "___class": "DeviceRegistration"}
    ]
    moved = await move(tenant, tmp_path, "backendless", "data.json", orjson.dumps(data))
    assert (await moved.device("d-4"))["user_id"] == "U-1"


async def test_gravitec(tenant: Tenant, tmp_path):
    text = (
        "regId;endpoint;p256dh;auth;tags;alias;language;timezone;active\n"
        f'r-1;{ENDPOINT}g1;{P256DH}=;{AUTH}==;"cars|boats";ada;en;Europe/Rome;true\n'
        f'r-2;;;;"cars";;;;false\n'
        f"r-3;{ENDPOINT}g3;{P256DH};;;;;;\n"
        f"r-4;http://192.168.1.1/x;{P256DH};{AUTH};;;;;\n"
    )
    moved = await move(tenant, tmp_path, "gravitec", "subscribers.csv", b"\xef\xbb\xbf" + text.encode())
    assert (moved.view["rows"], moved.view["rejected"]) == (4, 2), moved.view
    assert [(each["line"], each["column"]) for each in moved.view["rejects"]] == [(4, "auth"), (5, "endpoint")]
    first, second = await moved.device("r-1"), await moved.device("r-2")
    assert (first["alias"], first["tags"], first["locale"]) == ("ada", ["boats", "cars"], "en")
    assert (first["kind"], first["reachable"], first["time_zone"]) == ("webpush", True, "Europe/Rome")
    assert (second["reachable"], second["tags"]) == (False, ["cars"])
    whole = {"regId": "r-5", "subscription": {"endpoint": f"{ENDPOINT}g5", "keys": {"p256dh": P256DH, "auth": AUTH}}}
    moved = await move(tenant, tmp_path, "gravitec", "subscribers.json", orjson.dumps([whole]))
    assert (moved.view["rejected"], (await moved.device("r-5"))["reachable"]) == (0, True)


async def test_appenate(tenant: Tenant, tmp_path):
    text = (
        'User Id,First Name,Email,External Id,Groups,Mobile\n7,Ada,ada@example.com,,"Field, Office",007\n8,Bob,,bob,,\n'
    )
    moved = await move(tenant, tmp_path, "appenate", "users.csv", text)
    assert moved.view["rejected"] == 0
    ada = await moved.user("appenate:7")
    assert (ada["email"], ada["tags"]) == ("ada@example.com", ["Field", "Office"])
    assert ada["attributes"] == {"First Name": "Ada", "Mobile": "007"}
    assert (await moved.user("bob"))["attributes"] == {"First Name": "Bob"}


async def test_files_of_devices(tenant: Tenant, tmp_path):
    one, two = tenant.token(), tenant.token()
    text = (
        "Device Token\tKennung\tchannels\tattributes.plan\tcolour\n"
        f"{one}\tada\tnews|sports\tpro\tred\n"
        f"{two}\teve\t\t\tblue\n"
    )
    options = ("--map", "kennung=user_id", "--set", "kind=apns", "--set", f"bundle={BUNDLE}")
    moved = await move(tenant, tmp_path, "csv", "devices.tsv", text, *options)
    assert (moved.view["rejected"], moved.view["unused_columns"]) == (0, ["colour"])
    (device,) = (await tenant.server.ok("GET", "/devices?user_id=ada"))["items"]
    assert device["install_id"].startswith("token:")
    assert await moved.channels(device["install_id"]) == ["news", "sports"]
    assert (await moved.user("ada"))["attributes"] == {"plan": "pro"}
    done = await tenant.sent({"type": "channels", "any": ["sports"]})
    assert done["counts"]["accepted"] == tenant.arrived(one) == 1
    lines = [
        {
            "install_id": "x",
            "kind": "fcm",
            "token": FCM + "x",
            "bundle": "com.example",
            "tags": ["t"],
            "user_id": "eve",
        },
        {
            "install_id": "y",
            "platform": "web",
            "subscription": {"endpoint": f"{ENDPOINT}y", "keys": {"p256dh": P256DH, "auth": AUTH}},
        },
    ]
    moved = await move(tenant, tmp_path, "ndjson", "d.ndjson", b"\n".join(orjson.dumps(each) for each in lines))
    assert moved.view["rejected"] == 0
    assert (await moved.device("x"))["tags"] == ["t"]
    assert (await moved.device("y"))["platform"] == "web"
    # The app registers the same token under its own install id: the imported one keeps none.
    await tenant.server.ok("PUT", "/devices", {"install_id": "own", "bundle": BUNDLE, "token": one, "user_id": "ada"})
    assert (await tenant.server.ok("GET", f"/devices?install_id={device['install_id']}"))["items"][0][
        "reachable"
    ] is False


ROWS = (
    "install_id,kind,token,bundle,tags,user_id\n"
    '{a},apns,{token},{bundle},"x;y",ada\n'
    "{b},apns,bad token,{bundle},,bob\n"
    "{c},what,zz,,,\n"
    '{d},"open\n'
    "{e},fcm,{fcm},com.example,,eve\n"
    "{f},fcm\n"
)


async def test_a_dry_run_writes_nothing_and_its_rejects_are_corrected_and_fed_again(tenant: Tenant, tmp_path, world):
    names = {each: f"in-{each}" for each in "abcdef"}
    text = ROWS.format(token=tenant.token(), bundle=BUNDLE, fcm=FCM + "dry", **names)
    bad = tmp_path / "bad.csv"
    before = await state(tenant, world)
    moved = await move(tenant, tmp_path, "csv", "d.csv", text, "--dry-run", "--rejects", str(bad))
    assert await state(tenant, world) == before
    assert (moved.view["rows"], moved.view["rejected"]) == (6, 4), moved.view
    assert (moved.view["installs_made"], moved.view["users_made"], moved.view["addresses_made"]) == (2, 2, 2)
    assert [(each["line"], each["column"]) for each in moved.view["rejects"]] == [
        (3, "token"),
        (4, "kind"),
        (5, "1"),
        (7, "token"),
    ]
    first = bad.read_bytes()
    moved = await move(tenant, tmp_path, "csv", "d.csv", text, "--rejects", str(bad))
    assert bad.read_bytes() == first
    assert (moved.view["state"], moved.view["rejected"], len(moved.view["rejects"])) == ("done", 4, 4)
    lines = bad.read_text().splitlines()
    assert lines[0] == "_line,_column,_reason,install_id,kind,token,bundle,tags,user_id"
    assert lines[1].startswith("3,token,")
    assert lines[1].endswith(f",in-b,apns,bad token,{BUNDLE},,bob")
    # Corrected in place, without looking at what was added.
    mended = bad.read_text().replace("bad token", tenant.token()).replace("what,zz,,,", f"fcm,{FCM}w,com.example,,")
    mended = mended.replace('in-d,"open', f"in-d,fcm,{FCM}open,com.example,,").replace(
        "in-f,fcm", f"in-f,fcm,{FCM}f,com.example,,"
    )
    again = tmp_path / "again.csv"
    moved = await move(tenant, tmp_path, "csv", "mended.csv", mended, "--rejects", str(again))
    assert (moved.view["rows"], moved.view["rejected"]) == (4, 0), moved.view
    assert again.read_text().splitlines() == lines[:1]
    found = (await tenant.server.ok("GET", "/devices"))["items"]
    assert {each["install_id"] for each in found} == set(names.values())


async def test_rejects_of_json_are_corrected_and_fed_again(tenant: Tenant, tmp_path):
    lines = [
        b'{"install_id": "a", "kind": "fcm", "token": "%s", "tags": ["x"]}' % FCM.encode(),
        b'{"install_id": "b", "kind": "fcm", "token": "has blanks in it", "tags": ["x", "y"]}',
        b'{"install_id": "c", "kind": "fcm", "token": "abcd"',
        b"[1]",
    ]
    bad = tmp_path / "bad.ndjson"
    moved = await move(tenant, tmp_path, "ndjson", "d.ndjson", b"\n".join(lines), "--rejects", str(bad))
    assert (moved.view["rows"], moved.view["rejected"]) == (4, 3), moved.view
    told = [orjson.loads(line) for line in bad.read_bytes().splitlines()]
    assert [(each["_line"], each["_column"]) for each in told] == [(2, "token"), (3, ""), (4, "")]
    assert told[0]["tags"] == ["x", "y"]
    assert told[0]["_reason"]
    told[0]["token"] = FCM + "2"
    told[1]["_text"] += "}"
    mended = b"\n".join(orjson.dumps(each) for each in told[:2])
    moved = await move(tenant, tmp_path, "ndjson", "mended.ndjson", mended)
    assert (moved.view["rows"], moved.view["rejected"]) == (2, 0), moved.view
    assert await count(tenant, {"type": "installs", "ids": ["a", "b", "c"]}) == 3
