"""Gravitec's server API: each sample of its document with keys filled in, and each error that it names."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import orjson
import pytest
import pytest_asyncio

from pushd.config import DialectsConfig
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")

NO_FOLLOWER = "There is no follower with this regId!"
TOO_LONG = "Max alias length is 255!"
SAMPLE = {"payload": {"message": " Test massage", "title": "Test message", "redirect_url": "https://gravitec.net"}}
EMPTY = {"send_date": "", "ttl": "", "push_tag": "", "display_time": "", "is_transactional": "", "segments": []}


class Site:
    """A customer's site with a few followers."""

    def __init__(self, tenant, key, secret):
        self.tenant, self.auth = tenant, (key["identity"], secret)
        self.session, self.root = tenant.server._session, tenant.server.base.removesuffix("/pushd/v1")

    async def __call__(self, method, path, *, auth=None, **options):
        headers = {"Authorization": aiohttp.encode_basic_auth(*(auth or self.auth)), **options.pop("headers", {})}
        async with self.session.request(method, self.root + path, headers=headers, **options) as answer:
            raw = await answer.read()
            return answer.status, orjson.loads(raw) if "json" in answer.content_type else raw.decode()

    async def push(self, **body):
        return await self("POST", "/api/v3/push", json={**SAMPLE, **body})

    async def pushed(self, *followers):
        """The payloads that reached each, once one has reached all of these."""
        record = self.tenant.simulator.record
        async with asyncio.timeout(10):
            while not all(record.count(self.tokens[each], status=200) for each in followers):
                await asyncio.sleep(0.01)
        return {
            each: [orjson.loads(one.payload) for one in record.pushes(token)] for each, token in self.tokens.items()
        }


@pytest_asyncio.fixture(loop_scope="package")
async def site(tenant):
    made = await tenant.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
    site = Site(tenant, made["key"], made["secret"])
    own = {"anna": {"alias": "alias1", "tags": ["Cars"]}, "ben": {"tags": ["news", "cars"]}, "cleo": {}}
    site.tokens = {name: (await tenant.register(name, **fields))["token"] for name, fields in own.items()}
    return site


# Pushes


async def test_the_sample_push_and_its_answer(site):
    before = time.time()
    status, body = await site.push()
    assert status == 200
    assert body["id"].isdigit()
    assert before - 1 <= int(body.pop("send_date")) / 1000 <= time.time() + 1
    assert {key: body[key] for key in body if key != "id"} == {
        "ttl": 28800,
        "display_time": 60,
        "payload": {"title": "Test message"},
    }
    reached = await site.pushed("anna", "ben", "cleo")
    assert reached["anna"][0]["aps"]["alert"] == {"title": "Test message", "body": " Test massage"}


async def test_empty_texts_and_lists_mean_the_default(site):
    payload = SAMPLE["payload"] | {"icon": "", "image": "", "buttons": []}
    status, body = await site.push(**EMPTY, payload=payload, audience={})
    assert (status, body["ttl"], body["display_time"]) == (200, 28800, 60)


@pytest.mark.parametrize(
    ("audience", "reached"),
    [
        ({"tokens": ["anna", "cleo"]}, {"anna", "cleo"}),
        ({"aliases": ["alias1"]}, {"anna"}),
        ({"tags": ["CARS"]}, {"anna", "ben"}),
        (
            {"tags_segment": [{"association": "AND", "name": "cars"}, {"association": "AND_NOT", "name": "news"}]},
            {"anna"},
        ),
        (
            {"tags_segment": [{"association": "AND_NOT", "name": "cars"}, {"association": "OR", "name": "news"}]},
            {"ben", "cleo"},
        ),
    ],
)
async def test_each_kind_of_audience(site, audience, reached):
    status, _ = await site.push(audience=audience)
    assert status == 200
    await site.pushed(*reached)
    await asyncio.sleep(0.1)
    assert {name for name, pushes in (await site.pushed()).items() if pushes} == reached


async def test_a_segment_by_its_uuid(site):
    segment = {"name": "Car fans", "uuid": "fans", "audience": {"type": "tags", "any": ["cars"]}}
    await site.tenant.server.ok("POST", "/segments", segment)
    assert (await site.push(segments=["fans"]))[0] == 200
    await site.pushed("anna", "ben")
    status, body = await site.push(segments=["gone"])
    assert (status, body["httpStatus"]) == (422, "UNPROCESSABLE_ENTITY")


async def test_a_push_for_later_is_a_schedule(site):
    at_ms = int(time.time() * 1000) + 3_600_000
    for said in (at_ms, str(at_ms)):
        status, body = await site.push(send_date=said)
        assert (status, body["send_date"]) == (200, str(at_ms))
        schedule = await site.tenant.server.ok("GET", f"/schedules/{body['id']}")
        assert schedule["next_at"] == at_ms / 1000
    assert (await site.push(send_date="now"))[0] == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"payload": None}, "payload"),
        ({"payload": {"title": "No text"}}, "payload/message"),
        ({"payload": {"message": "x" * 1001}}, "payload/message"),
        ({"payload": {"message": "x", "title": "x" * 1001}}, "payload/title"),
        ({"payload": {"message": "x", "icon": "https://example.com/a.gif"}}, "payload/icon"),
        ({"payload": {"message": "x", "icon": " https://example.com/a.png"}}, "payload/icon"),
        ({"payload": {"message": "x", "image": "ftp://example.com/a.png"}}, "payload/image"),
        ({"payload": {"message": "x", "redirect_url": "example"}}, "payload/redirect_url"),
        ({"payload": {"message": "x", "redirect_url": "https://e.com/" + "x" * 1000}}, "payload/redirect_url"),
        ({"payload": {"message": "x", "buttons": [{"title": "A", "url": "https://e.com"}] * 3}}, "payload/buttons"),
        ({"payload": {"message": "x", "buttons": [{"title": "A" * 49, "url": "https://e.com"}]}}, "payload/buttons"),
        ({"payload": {"message": "x", "buttons": [{"title": "A"}]}}, "payload/buttons"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 2_419_201}, "ttl"),
        ({"display_time": "soon"}, "display_time"),
        ({"push_tag": "x" * 101}, "push_tag"),
        ({"is_transactional": "maybe"}, "is_transactional"),
        ({"is_transactional": {}}, "is_transactional"),
        ({"display_time": 2_419_201}, "display_time"),
        ({"payload": {"message": "x", "icon": "https://e.com/" + "x" * 1000 + ".png"}}, "payload/icon"),
        ({"payload": {"message": "x", "image": "https://e.com/" + "x" * 1000 + ".png"}}, "payload/image"),
        ({"payload": {"message": "x", "image": "https://e.com/a.webp"}}, "payload/image"),
        ({"payload": {"message": "x", "redirect_url": "https://e.com/\t"}}, "payload/redirect_url"),
        (
            {"payload": {"message": "x", "buttons": [{"title": "A", "url": "https://e.com/" + "x" * 1000}]}},
            "payload/buttons",
        ),
        ({"segments": ["a"], "audience": {"tags_segment": [{"association": "AND", "name": "a"}]}}, "audience"),
        ({"audience": {"tags_segment": [{"association": "AND", "name": "x" * 256}]}}, "audience/tags_segment"),
        (
            {"audience": {"tags_segment": [{"association": "OR", "name": f"t{n}"} for n in range(257)]}},
            "audience/tags_segment",
        ),
        ({"send_date": 1_509_058_800_000}, "send_date"),
        ({"send_date": "tomorrow"}, "send_date"),
        ({"segments": ["a", "b"]}, "segments"),
        ({"segments": ["a"], "audience": {"tags": ["b"]}}, "audience"),
        ({"audience": {"tags": ["a"], "aliases": ["b"]}}, "audience"),
        ({"audience": {"tags": ["a"], "tags_segment": [{"association": "AND", "name": "a"}]}}, "audience"),
        ({"audience": {"tokens": ["a"] * 101}}, "audience/tokens"),
        ({"audience": {"tags_segment": [{"association": "XOR", "name": "a"}]}}, "audience/tags_segment"),
        (
            {"audience": {"tags_segment": [{"association": "AND", "name": n} for n in ("CARS", "cars")]}},
            "audience/tags_segment",
        ),
        ({"audience": {"tags_segment": [{"association": "AND", "name": "unheard of"}]}}, ""),
        ({"audience": {"tokens": ["nobody"]}}, ""),
    ],
)
async def test_a_wrong_push_is_422_and_says_where(site, change, said):
    status, body = await site.push(**change)
    assert status == 422, body
    assert (body["httpStatus"], body["error"]) == ("UNPROCESSABLE_ENTITY", "Incomplete by wrong param(s)!")
    assert body["errorDescription"].startswith(said)
    assert len(body["errorDescription"]) > len(said)


async def test_what_a_browser_shows_is_what_was_sent(site):
    payload = {
        "message": "Text",
        "title": "Title",
        "icon": "https://example.com/i.PNG",
        "image": "https://example.com/p.jpeg?size=2",
        "redirect_url": "https://example.com/news",
        "buttons": [{"title": "Read", "url": "https://example.com/read"}],
    }
    status, body = await site.push(payload=payload, display_time=0, ttl=0, push_tag="news")
    assert status == 200
    view = await site.tenant.show(int(body["id"]))
    message = view["message"]
    assert (message["url"], message["icon"], message["image"]) == tuple(
        payload[name] for name in ("redirect_url", "icon", "image")
    )
    assert message["buttons"] == [{"id": "button-1", "text": "Read", "url": "https://example.com/read"}]
    assert (message["display_time_s"], view["ttl_s"]) == (0, 0)


async def test_what_is_just_within_the_limits_is_sent(site):
    def url(ending=""):
        return "https://example.com/" + "x" * (1000 - 20 - len(ending)) + ending

    for own in (
        {"message": "x" * 1000},
        {"title": "x" * 1000},
        {"icon": url(".jpg")},
        {"image": url(".jpeg")},
        {"redirect_url": url()},
        {"buttons": [{"title": "x" * 48, "url": url()}, {"title": "y", "url": "https://example.com"}]},
    ):
        assert (await site.push(payload={"message": "x", **own}, audience={"tokens": ["anna"] * 100}))[0] == 200, own
    names = ["x" * 255, "cars", *(f"tag {n}" for n in range(254))]
    assert (await site("POST", f"/api/v3/tag?regId=anna&name={names[0]}"))[0] == 200
    for name in names[2:]:
        await site.tenant.register(f"holder of {name}", tags=[name])
    segment = [{"association": "OR", "name": name} for name in names]
    limits = {"push_tag": "x" * 100, "ttl": 2_419_200, "display_time": 2_419_200}
    status, body = await site.push(audience={"tags_segment": segment}, **limits)
    assert (status, body["ttl"], body["display_time"]) == (200, 2_419_200, 2_419_200), body


async def test_a_transactional_push_is_none_of_the_campaigns(site):
    sent = {}
    for said in (True, "true", False, "", "false"):
        status, body = await site.push(is_transactional=said, audience={"tokens": ["anna"]})
        assert status == 200
        sent[int(body["id"])] = said in {True, "true"}
    for wanted in (True, False):
        page = await site.tenant.server.ok("GET", f"/notifications?transactional={str(wanted).lower()}")
        assert {each["id"] for each in page["items"]} == {id_ for id_, flag in sent.items() if flag is wanted}
        assert page["next"] is None


# Keys


@pytest.mark.parametrize("path", ["/api/v3/push", "/api/v3/alias?regId=anna&name=a", "/api/v3/tag?regId=anna&name=a"])
async def test_every_bad_key_is_403(site, path):
    for auth in (("5459059059405940gpgkj", "x"), (site.auth[0], "wrong")):
        status, body = await site("POST", path, auth=auth, data=b"{}")
        assert status == 403
        assert body == {
            "status": "incomplete by bad auth",
            "error_message": f"There is no web site with appKey: {auth[0]}",
        }


async def test_another_apps_key_sees_nothing(site, world):
    other = await world.tenant()
    made = await other.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
    stranger = Site(other, made["key"], made["secret"])
    _, sent = await site.push()
    unknown = await stranger("GET", "/api/v3/messages/999999999")
    assert unknown[0] == 422
    assert await stranger("GET", f"/api/v3/messages/{sent['id']}") == unknown
    assert await stranger("GET", "/api/v3/alias?regId=anna") == (200, {"regIdExists": "false"})


async def test_plain_http_is_refused_unless_allowed_and_g2_a_link_required_where_asked_for():
    dialects = DialectsConfig(gravitec_redirect_url_required=True)
    async with running(dialects=dialects, http={"trusted_proxies": ["127.0.0.1/32"]}) as strict:
        tenant = await strict.tenant()
        await tenant.register("anna")
        made = await tenant.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
        site = Site(tenant, made["key"], made["secret"])
        status, body = await site.push()
        assert (status, body["error_message"]) == (403, "Calls have to be made over HTTPS")
        safe = {"headers": {"X-Forwarded-Proto": "https"}}
        assert (await site("POST", "/api/v3/push", json=SAMPLE, **safe))[0] == 200
        status, body = await site(
            "POST", "/api/v3/push", json={"payload": {"message": "x", "redirect_url": ""}}, **safe
        )
        assert (status, body["errorDescription"]) == (422, "payload/redirect_url is missing")


# Followers


async def test_an_alias_is_set_and_read(site):
    url = "/api/v3/alias?regId=cleo&name=own%20id%26device"
    assert (await site("POST", url))[0] == 200
    alias = await site("GET", "/api/v3/alias?regId=cleo")
    known = {"regIdExists": "true", "aliasExists": "true", "isActiveFollower": "true"}
    assert alias == (200, known | {"alias": "own id&device"})


async def test_g4_the_samples_of_alias(site):
    # As printed, sent by a client that takes what follows # for a fragment, and by one that escapes it; and a NUL.
    for name in ("okf8kj589ktGF5g3gF", "okf8kj589ktGF5g3gF%23gf3%2346g%5E%5E6gfGfgfgfg%25g5g", "x" * 300, "%00"):
        answer = await site("GET", f"/api/v3/alias?regId={name}")
        assert answer == (200, {"regIdExists": "false"})
    known = {"regIdExists": "true", "aliasExists": "false", "isActiveFollower": "true"}
    assert await site("GET", "/api/v3/alias?regId=cleo") == (200, known)
    device = (await site.tenant.server.ok("GET", "/devices"))["items"][0]
    assert device["install_id"] == "anna"
    await site.tenant.server.ok("PATCH", f"/devices/{device['id']}", {"push_enabled": False})
    inactive = {"regIdExists": "true", "aliasExists": "true", "isActiveFollower": "false", "alias": "alias1"}
    assert await site("GET", "/api/v3/alias?regId=anna") == (200, inactive)


async def test_tags_keep_their_first_spelling_and_come_off_in_any(site):
    for name in ("tagname", "TagName", "two"):
        assert (await site("POST", f"/api/v3/tag?regId=cleo&name={name}"))[0] == 200
    (device,) = [d for d in (await site.tenant.server.ok("GET", "/devices"))["items"] if d["install_id"] == "cleo"]
    assert sorted(device["tags"]) == ["tagname", "two"]
    assert (await site("DELETE", "/api/v3/tag?regId=cleo&name=TAGNAME"))[0] == 200
    status, body = await site("DELETE", "/api/v3/tag?regId=cleo&name=tagname")
    assert (status, body["errorDescription"]) == (422, "The follower doesn't have this tag!")


async def test_tags_that_come_at_once_are_all_kept(site):
    done = await asyncio.gather(*(site("POST", f"/api/v3/tag?regId=cleo&name=t{n}") for n in range(20)))
    assert {status for status, _ in done} == {200}
    (device,) = [d for d in (await site.tenant.server.ok("GET", "/devices"))["items"] if d["install_id"] == "cleo"]
    assert len(device["tags"]) == 20


@pytest.mark.parametrize(
    ("method", "query", "status", "said"),
    [
        ("POST alias", "regId=anna", 400, 'Required String parameter "name" is not present'),
        ("POST alias", "name=a", 400, 'Required String parameter "regId" is not present'),
        ("POST alias", "regId=nobody&name=a", 422, NO_FOLLOWER),
        ("POST alias", "regId=anna&name=" + "x" * 256, 422, TOO_LONG),
        ("POST alias", "regId=%00&name=a", 422, NO_FOLLOWER),
        ("POST alias", "regId=" + "x" * 256 + "&name=a", 422, NO_FOLLOWER),
        ("POST tag", "regId=anna", 400, 'Required String parameter "name" is not present'),
        ("POST tag", "regId=&name=a", 400, 'Required String parameter "regId" is not present'),
        ("POST tag", "regid=anna&name=a", 400, 'Required String parameter "regId" is not present'),
        ("POST tag", "regId=nobody&name=a", 422, NO_FOLLOWER),
        ("POST tag", "regId=anna&name=" + "x" * 256, 422, TOO_LONG),
        ("DELETE tag", "regId=anna", 400, 'Required String parameter "name" is not present'),
        ("DELETE tag", "name=a", 400, 'Required String parameter "regId" is not present'),
        ("DELETE tag", "regId=nobody&name=a", 422, NO_FOLLOWER),
        ("DELETE tag", "regId=anna&name=b", 422, "The follower doesn't have this tag!"),
        ("DELETE tag", "regId=anna&name=" + "x" * 256, 422, TOO_LONG),
        ("GET alias", "regId=", 400, "Required String parameter regId is not present"),
        ("GET alias", "", 400, "Required String parameter regId is not present"),
        ("GET messages", "", 400, 'Required parameter "campaignID" is not present'),
        ("GET messages/", "", 400, 'Required parameter "campaignID" is not present'),
        ("GET messages/", "campaignID=1603861504654835713", 422, "There is no message with this id!"),
        ("GET messages", "campaignID=1603861504654835713", 422, "There is no message with this id!"),
        ("GET messages/1603861504654835713", "", 422, "There is no message with this id!"),
        ("GET messages/one", "", 422, "There is no message with this id!"),
    ],
)
async def test_g7_each_documented_error(site, method, query, status, said):
    verb, _, path = method.partition(" ")
    found, body = await site(verb, f"/api/v3/{path}?{query}")
    assert found == status
    if status == 400:
        assert body == said
    else:
        expected = {"httpStatus": "UNPROCESSABLE_ENTITY", "error": "Incomplete by wrong param(s)!"}
        assert body == expected | {"errorDescription": said}


# Messages


async def test_g5_what_came_of_a_push_by_path_and_by_parameter(site):
    _, sent = await site.push(audience={"tokens": ["anna", "ben"]})
    await site.tenant.finished(int(sent["id"]))
    events = [
        {"id": "1", "notification_id": int(sent["id"]), "install_id": "anna", "event": "received"},
        {"id": "2", "notification_id": int(sent["id"]), "install_id": "ben", "event": "received"},
        {"id": "3", "notification_id": int(sent["id"]), "install_id": "anna", "event": "clicked"},
        {"id": "4", "notification_id": int(sent["id"]), "install_id": "ben", "event": "dismissed"},
    ]
    await site.tenant.server.ok("POST", "/receipts", {"receipts": events})
    expected = {"status": "SENT", "send": 2, "received": 2, "clicked": 1, "closed": 1}
    assert await site("GET", f"/api/v3/messages/{sent['id']}") == (200, expected)
    for path in ("messages", "messages/"):
        assert await site("GET", f"/api/v3/{path}?campaignID={sent['id']}") == (200, expected)


async def test_a_push_whose_time_has_not_come_is_not_sent(site):
    _, later = await site.push(send_date=int(time.time() * 1000) + 3_600_000)
    nothing = dict.fromkeys(("send", "received", "clicked", "closed"), 0)
    assert await site("GET", f"/api/v3/messages/{later['id']}") == (200, {"status": "SCHEDULED", **nothing})
    await site.tenant.server.ok("POST", f"/notifications/{later['id']}/cancel")
    assert await site("GET", f"/api/v3/messages/{later['id']}") == (200, {"status": "CANCELLED", **nothing})


# The server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v3/nothing", 404), ("PUT", "/api/v3/push", 405), ("POST", "/api/v3/push", 413)],
)
async def test_errors_of_the_server_are_json(site, method, path, status):
    data = b"x" * 300_000 if status == 413 else b""
    found, body = await site(method, path, data=data)
    assert found == status
    assert set(body) == {"httpStatus", "error", "errorDescription"}


async def test_the_vendors_host_is_its_own(site):
    status, body = await site("GET", "/nothing/at/all", headers={"Host": "uapi.gravitec.net"})
    assert (status, set(body)) == (404, {"httpStatus", "error", "errorDescription"})
