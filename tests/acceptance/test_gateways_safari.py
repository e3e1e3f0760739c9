"""Safari's website pushes through the daemon: a visitor subscribes by a push package, is pushed to, and leaves."""

import asyncio
import base64
import io
import json
import re
import secrets
import subprocess
import zipfile

import pytest
from typer.testing import CliRunner

from protocols.safari_package import ICONS
from pushd.cli.program import program
from pushd.model.safari import icon_field
from pushd.simulator.faults import Answer
from tests.protocols.test_safari_package import png

pytestmark = pytest.mark.asyncio(loop_scope="package")

SITE = "web.com.example"
FORMAT = "https://example.com/%@?from=%@"


class Site:
    """A site of a tenant, and the Safaris of its visitors."""

    def __init__(self, world, tenant, credential):
        self.world, self.tenant, self.credential = world, tenant, credential
        self.service = world.base.removesuffix("/v1") + f"/safari/{tenant.app_id}"

    async def ask(self, method, path, *, auth=None, app=None, **body):
        """Status, content type and body of an answer to Safari, which has no key."""
        base = self.service if app is None else self.service.rpartition("/")[0] + f"/{app}"
        headers = {} if auth is None else {"Authorization": auth}
        async with self.world.session.request(method, base + path, headers=headers, **body) as answer:
            return answer.status, answer.content_type, await answer.read()

    async def package(self, visitor=None, site=SITE):
        """The files of a visitor's package."""
        status, content_type, data = await self.ask("POST", f"/v2/pushPackages/{site}", json=visitor or {})
        assert (status, content_type) == (200, "application/zip"), data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    async def subscribe(self, visitor=None):
        """A visitor's device token and what its Safari authenticates with."""
        website = json.loads((await self.package(visitor))["website.json"])
        token, auth = secrets.token_hex(32), f"ApplePushNotifications {website['authenticationToken']}"
        assert (await self.ask("POST", registration(token), auth=auth))[0] == 200
        return token, auth

    async def devices(self, **query):
        """The app's devices."""
        return (await self.tenant.server.ok("GET", "/devices", params=query))["items"]


def registration(token, site=SITE):
    return f"/v2/devices/{token}/registrations/{site}"


def body(**changes):
    icons = {icon_field(name): base64.b64encode(png(side)).decode() for name, side in ICONS.items()}
    made = {
        "website_name": "Orchard",
        "allowed_domains": ["https://example.com"],
        "web_service_url": "https://push.example.com/pushd/safari/1",
        "icons": icons,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


async def certified(world, *topics, **more):
    """A tenant with the certificate of a website."""
    tenant = await world.tenant(credential=False)
    p12 = world.simulator.identity.p12(topics or (SITE,), "apple")
    secret = {"type": "safari_certificate", "p12": base64.b64encode(p12).decode(), "password": "apple"}
    made = await tenant.server.ok("POST", "/credentials", {"secret": {"url_format": FORMAT, **secret, **more}})
    return Site(world, tenant, made)


async def with_site(world, **changes):
    site = await certified(world)
    await site.tenant.server.ok("PUT", f"/safari/sites/{SITE}", body(**changes))
    return site


async def test_s05_the_package_is_signed_by_the_sites_certificate(world, tmp_path):
    site = await with_site(world)
    files = await site.package({"anything": 1})
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    verify = ["openssl", "smime", "-verify", "-inform", "DER", "-in", "signature", "-content", "manifest.json"]
    verify += ["-CAfile", world.simulator.ca_file, "-purpose", "any", "-binary", "-signer", "signer"]
    subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True)
    shown = subprocess.run(
        ["openssl", "x509", "-in", "signer", "-noout", "-fingerprint", "-sha256"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.strip().partition("=")[2].replace(":", "").lower() == site.credential["summary"]["fingerprint"]
    website = json.loads(files["website.json"])
    assert (website["websitePushID"], website["urlFormatString"]) == (SITE, FORMAT)
    assert website["webServiceURL"] == "https://push.example.com/pushd/safari/1"
    assert len(website["authenticationToken"]) >= 16
    assert files["icon.iconset/icon_128x128@2x.png"] == png(256)
    other = json.loads((await site.package())["website.json"])
    assert other["authenticationToken"] != website["authenticationToken"]


async def test_s05_a_visitor_subscribes_is_pushed_to_and_leaves(world):
    site = await with_site(world)
    token, auth = await site.subscribe()
    (device,) = await site.devices()
    assert (device["kind"], device["bundle"], device["platform"]) == ("safari", SITE, "macos")
    assert (device["reachable"], device["user_id"]) == (True, None)

    message = {"title": "Pears", "body": "are ripe", "url": "https://example.com/pears?from=push"}
    view = await site.tenant.sent(message=message)
    assert view["counts"]["accepted"] == 1
    push = world.simulator.record.last(token)
    assert dict(push.headers)["apns-topic"] == SITE
    sent = {"alert": {"title": "Pears", "body": "are ripe"}, "url-args": ["pears", "push"]}
    assert json.loads(push.payload) == {"aps": sent}

    # Once more is the same device; another package may not take it away.
    assert (await site.ask("POST", registration(token), auth=auth))[0] == 200
    _, stranger = await site.subscribe()
    assert (await site.ask("DELETE", registration(token), auth=stranger))[0] == 200
    assert len(await site.devices()) == 2
    assert (await site.ask("DELETE", registration(token), auth=auth))[0] == 200
    assert token[-4:] not in {each["token_hint"] for each in await site.devices()}
    assert (await site.ask("DELETE", registration(token), auth=auth))[0] == 200
    assert (await site.tenant.sent(message=message))["counts"]["accepted"] == 1
    assert world.simulator.record.count(token) == 1


async def test_s05_what_a_page_tells_of_its_visitor_is_believed_with_a_key(world):
    site = await with_site(world)
    key = await site.tenant.admin.ok("POST", "/keys", {"role": "device"})
    visitor = {"user_id": "ada", "tags": ["news"], "locale": "de-DE", "install_id": "ada's mac", "theme": "dark"}
    await site.subscribe(visitor)
    assert (await site.devices())[0]["user_id"] is None
    token, _ = await site.subscribe(visitor | {"key": key["secret"]})
    (device,) = await site.devices(install_id="ada's mac")
    assert (device["user_id"], device["tags"], device["locale"]) == ("ada", ["news"], "de-DE")
    view = await site.tenant.sent({"type": "users", "ids": ["ada"]})
    assert (view["counts"]["accepted"], site.tenant.arrived(token)) == (1, 1)

    server = await site.tenant.admin.ok("POST", "/keys", {"role": "server"})
    stranger = await (await world.tenant(credential=False)).admin.ok("POST", "/keys", {"role": "device"})
    for secret, status in ((server["secret"], 403), (stranger["secret"], 403), ("pushd_device_nonsense", 401)):
        answer = await site.ask("POST", f"/v2/pushPackages/{SITE}", json={"key": secret})
        assert answer[0] == status
        assert secret.encode() not in answer[2]


async def test_s05_nobody_registers_without_a_package(world):
    site, other = await with_site(world), await with_site(world)
    token, auth = await site.subscribe()
    scheme, _, text = auth.partition(" ")
    changed = text[:-2] + ("AA" if text[-2:] != "AA" else "BB")
    for wrong in (
        None,
        "",
        text,
        f"Bearer {text}",
        scheme,
        f"{scheme} {changed}",
        f"{scheme} !",
        f"{scheme} {'A' * 80}",
    ):
        for method in ("POST", "DELETE"):
            assert (await site.ask(method, registration(token), auth=wrong))[0] == 401
    assert (await other.ask("POST", registration(token), auth=auth))[0] == 401
    assert (await site.ask("POST", registration(token, "web.org.example"), auth=auth))[0] == 401
    for bad in ("xyz", "ab%2Fcd", "é", "a" * 4_097):
        assert (await site.ask("POST", registration(bad), auth=auth))[0] == 400
    assert (await site.ask("POST", registration("%00"), auth=auth))[0] == 404
    assert len(await site.devices()) == 1
    assert await other.devices() == []


async def test_s05_what_is_not_there_and_what_is_too_much(world):
    site = await with_site(world)
    post = site.ask
    assert (await post("POST", "/v2/pushPackages/web.org.example", json={}))[0] == 404
    for nothing in ("web.%00", "%FF", "web." + "x" * 3_000):
        assert (await post("POST", f"/v2/pushPackages/{nothing}", json={}))[0] == 404
    assert (await post("POST", f"/v1/pushPackages/{SITE}", json={}))[0] == 404
    assert (await post("GET", f"/v2/pushPackages/{SITE}"))[0] == 405
    for app in (0, 2**31, "x", 999_999):
        assert (await post("POST", f"/v2/pushPackages/{SITE}", app=app, json={}))[0] == 404
    assert (await post("POST", f"/v2/pushPackages/{SITE}", json={"x": "y" * 5_000}))[0] == 413
    assert (await post("POST", f"/v2/pushPackages/{SITE}", data=b"[1]"))[0] == 400
    assert (await post("POST", f"/v2/pushPackages/{SITE}", data=b""))[0] == 200
    await site.tenant.server.ok("DELETE", f"/safari/sites/{SITE}")
    assert (await post("POST", f"/v2/pushPackages/{SITE}", json={}))[0] == 404


async def test_s05_complaints_are_heard_and_bounded(world):
    site = await with_site(world)
    config = world.daemon.config.safari
    lines = ["Signature verification of push package failed", "x" * 5_000, "two\nlines"]
    assert (await site.ask("POST", "/v2/log", json={"logs": lines}))[0] == 200
    told = (await site.tenant.server.ok("GET", "/safari/log"))["items"]
    assert [each["text"] for each in told] == [lines[0], "x" * config.log_line_chars_max, "two lines"]
    for _ in range(5):
        await site.ask("POST", "/v2/log", json={"logs": [f"line {number}" for number in range(100)]})
    told = (await site.tenant.server.ok("GET", "/safari/log"))["items"]
    assert len(told) == config.log_lines_kept
    assert told[-1]["text"] == f"line {config.log_lines_max - 1}"
    assert (await site.ask("POST", "/v2/log", json={"logs": ["x" * 20_000]}))[0] == 413
    assert (await site.ask("POST", "/v2/log", json={"logs": 1}))[0] == 400
    assert (await site.ask("POST", "/v2/log", app=999_999, json={"logs": ["x"]}))[0] == 404


async def test_s05_a_site_is_put_shown_changed_and_ended(world):
    site = await certified(world, url_format="")
    server = site.tenant.server
    refused = await server("PUT", f"/safari/sites/{SITE}", json=body())
    assert (refused.status, refused.pointers) == (400, ["/url_format"])
    made = await server.ok("PUT", f"/safari/sites/{SITE}", body(url_format=FORMAT))
    assert made["icons"] == {icon_field(name): len(png(side)) for name, side in ICONS.items()}
    shown = await server.ok("GET", f"/credentials/{site.credential['id']}")
    assert shown["summary"]["url_format"] == made["url_format"] == FORMAT
    changed = await server.ok("PUT", f"/safari/sites/{SITE}", body(website_name="Pears", icons=None))
    assert (changed["website_name"], changed["url_format"], changed["icons"]) == ("Pears", FORMAT, made["icons"])
    assert json.loads((await site.package())["website.json"])["websiteName"] == "Pears"
    assert (await server.ok("GET", "/safari/sites"))["items"] == [changed]
    assert await server.ok("GET", f"/safari/sites/{SITE}") == changed
    device_key = site.tenant.device
    assert (await device_key("GET", "/safari/sites")).status == 403
    assert (await server("DELETE", f"/safari/sites/{SITE}")).status == 204
    for method in ("GET", "DELETE"):
        assert (await server(method, f"/safari/sites/{SITE}")).status == 404
    no_icons = await server("PUT", f"/safari/sites/{SITE}", json=body(icons=None))
    assert (no_icons.status, no_icons.pointers) == (400, ["/icons"])


async def test_s05_the_command_line_makes_a_site(world, tmp_path):
    tenant = await world.tenant(credential=False)
    files = {"site.p12": world.simulator.identity.p12((SITE,), "apple"), "password": b"apple\n"}
    key = await tenant.admin.ok("POST", "/keys", {"role": "server"})
    files |= {"key": key["secret"].encode(), "chain.pem": world.simulator.ca_file.read_bytes()}
    files |= {name: png(side) for name, side in ICONS.items()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    async def pushd(*arguments):
        options = ("--json", "--url", world.base.removesuffix("/pushd/v1"), "--key-file", str(tmp_path / "key"))
        done = await asyncio.to_thread(CliRunner().invoke, program, [*arguments, *options])
        assert done.exit_code == 0, (done.output, done.exception)
        # The daemon is in this process, and its log goes where the command prints.
        return json.loads("\n".join(line for line in done.stdout.splitlines() if not re.match(r"20\d\d-", line)))

    upload = ("gateway", "safari", tmp_path / "site.p12", "--password-file", tmp_path / "password")
    credential = await pushd(*map(str, upload), "--url-format", FORMAT)
    assert credential["summary"]["url_format"] == FORMAT
    site = ("safari", "put", SITE, "--website-name", "Orchard", "--domain", "https://example.com")
    service = ("--web-service-url", "https://push.example.com/pushd/safari/1")
    made = await pushd(*site, *service, "--icons", str(tmp_path), "--chain", str(tmp_path / "chain.pem"))
    assert (made["url_format"], made["icons"]["icon_16x16"]) == (FORMAT, len(png(16)))
    assert await pushd("safari", "list") == [made]
    assert await pushd("safari", "show", SITE) == made
    assert await pushd("safari", "log") == []


async def test_s05_a_deleted_app_has_no_sites(world):
    site = await with_site(world)
    await world.admin.ok("DELETE", f"/apps/{site.tenant.app_id}")
    assert (await site.ask("POST", f"/v2/pushPackages/{SITE}", json={}))[0] == 404
    assert (await site.ask("POST", "/v2/log", json={"logs": ["x"]}))[0] == 404
    assert await world.daemon.store.safari_sites.list(site.tenant.app_id) == []


async def test_s05_what_safari_would_refuse_is_refused_here(world):
    site = await certified(world)
    small = base64.b64encode(png(15)).decode()
    for changes, pointers in (
        ({"allowed_domains": ["example.com"]}, ["/allowed_domains/0"]),
        ({"allowed_domains": ["https://example.org"]}, ["/allowed_domains"]),
        ({"web_service_url": "http://push.example.com"}, ["/web_service_url"]),
        ({"url_format": "nonsense"}, ["/url_format"]),
        ({"icons": body()["icons"] | {"icon_16x16": small}}, ["/icons/icon_16x16"]),
        ({"chain": "no certificate"}, ["/chain"]),
    ):
        refused = await site.tenant.server("PUT", f"/safari/sites/{SITE}", json=body(**changes))
        assert (refused.status, refused.pointers) == (400, pointers), refused.body
    answer = await site.tenant.server("PUT", "/safari/sites/web.org.example", json=body())
    assert answer.status == 409
    answer = await site.tenant.server("PUT", "/safari/sites/com.example", json=body())
    assert answer.status == 404


async def test_s03_links_and_arguments_are_checked_when_a_send_is_made(world):
    site = await with_site(world)
    await site.subscribe()
    post = site.tenant.server
    for message, pointer in (
        ({"body": "b", "url": "https://example.org/"}, "/message/url"),
        (
            {"body": "b", "overrides": {"safari": {"aps": {"url-args": ["one"]}}}},
            "/message/overrides/safari/aps/url-args",
        ),
        ({"body": "b" * 4_000}, "/message/body"),
    ):
        refused = await post("POST", "/notifications", json={"audience": {"type": "broadcast"}, "message": message})
        assert (refused.status, refused.pointers) == (400, [pointer]), refused.body
    view = await site.tenant.sent(message={"body": "b", "overrides": {"safari": {"aps": {"url-args": ["a", "b"]}}}})
    assert view["counts"]["accepted"] == 1


async def test_s03_a_format_that_changed_since_is_said_row_by_row(world):
    site = await with_site(world)
    await site.subscribe()
    paused = f"/credentials/{site.credential['id']}"
    await site.tenant.server.ok("POST", f"{paused}/pause")
    sent = await site.tenant.send(message={"body": "b", "url": "https://example.com/pears?from=push"})
    await site.tenant.until(sent["id"], lambda view: view["counts"]["pending"] == 1)
    changed = body(url_format="https://shop.example.com/%@", allowed_domains=["https://shop.example.com"], icons=None)
    await site.tenant.server.ok("PUT", f"/safari/sites/{SITE}", changed)
    view = await site.tenant.finished(sent["id"])
    assert [(row["reason"], row["outcome"]) for row in view["reasons"]] == [("link_does_not_fit_site", "rejected")]


async def test_s06_dead_tokens_are_retired_and_a_revoked_certificate_holds(world):
    site = await with_site(world)
    visitors = [await site.subscribe() for _ in range(12)]
    site.tenant.fault(Answer(reason="Unregistered"), tokens=[visitors[0][0]])
    view = await site.tenant.sent(message={"body": "b"})
    assert (view["counts"]["accepted"], view["counts"]["failed"]) == (11, 1)
    assert {row["outcome"] for row in view["reasons"]} == {"accepted", "unregistered"}

    world.simulator.tokens.revoked.add(site.credential["summary"]["fingerprint"])
    sent = await site.tenant.send(message={"body": "b"})
    await site.tenant.until(sent["id"], lambda view: view["counts"]["pending"] >= 11)
    p12 = world.simulator.identity.p12((SITE,), "apple")
    secret = {"type": "safari_certificate", "p12": base64.b64encode(p12).decode(), "password": "apple"}
    made = await site.tenant.server.ok("PUT", f"/credentials/{site.credential['id']}", {"secret": secret})
    assert made["summary"]["url_format"] == FORMAT
    assert (await site.tenant.finished(sent["id"]))["counts"]["accepted"] >= 11


async def test_s01_a_safari_is_registered_like_any_device_too(world):
    site = await certified(world)
    device = {"install_id": "mac", "kind": "safari", "token": "AB" * 32}
    server = site.tenant.server
    for bundle, token, pointer in (
        (None, "ab" * 32, "/bundle"),
        ("com.example", "ab" * 32, "/bundle"),
        (SITE, "a/b", "/token"),
    ):
        wrong = device | {"token": token} | ({"bundle": bundle} if bundle else {})
        refused = await server("PUT", "/devices", json=wrong)
        assert (refused.status, refused.pointers) == (400, [pointer])
    made = await server.ok("PUT", "/devices", device | {"bundle": SITE})
    assert made["token_hint"] == "abab"
    proof = await server.ok("POST", f"/credentials/{site.credential['id']}/test", {})
    assert proof["accepted"] is True
    assert (await site.tenant.sent(message={"body": "b"}))["counts"]["accepted"] == 1
