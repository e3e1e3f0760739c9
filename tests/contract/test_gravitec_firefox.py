"""Gravitec's SDK in a real Firefox: a page registers, is tagged, gets what a server sends, clicks it, and moves on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from aiohttp import web

from pushd.config import DialectsConfig
from pushd.simulator.webpush import PushService
from tests.acceptance.world import running
from tests.contract.test_gravitec import Site
from tests.contract.webpush_far import config_for
from tests.firefox import launched
from tests.marionette import OPTIONS, PREFERENCES, driven

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = """<!doctype html><meta charset="utf-8"><title>Shop</title>
<script async src="{root}/storage/{key}/client.js"></script>
<script>
var Gravitec = Gravitec || [];
window.heard = [];
Gravitec.push(["init", {{autoRegister: {auto}}}]);
Gravitec.push(["afterSubscription", told => heard.push(["afterSubscription", told])]);
Gravitec.push(["segmentation.addTag", "Cars", () => heard.push(["tagged", null])]);
</script>"""
WORKER = (
    "self[`appKey`] = `{key}`;\nself[`hostUrl`] = `{root}/sw`;\nself.importScripts(`${{self[`hostUrl`]}}/worker.js`);\n"
)
ALERTS = "chrome://global/content/alerts/alert.xhtml"
PATIENCE_S = 30.0
SCREEN = """
const screen = {
    QueryInterface: ChromeUtils.generateQI(["nsIAlertsService"]),
    createInstance(iid) { return this.QueryInterface(iid); },
    showAlert(alert, listener) {
        this.described = {
            actions: alert.actions.map(each => each.title), stays: alert.requireInteraction, icon: alert.imageURL,
        };
        this.press = number => listener.observe(alert.actions[number], "alertclickcallback", alert.cookie);
        listener.observe(null, "alertshow", alert.cookie);
    },
    closeAlert() {},
    getHistory: () => [],
    teardown() {},
    pbmTeardown() {},
};
const registrar = Components.manager.QueryInterface(Ci.nsIComponentRegistrar);
registrar.registerFactory(Services.uuid.generateUUID(), "", "@mozilla.org/system-alerts-service;1", {
    QueryInterface: ChromeUtils.generateQI(["nsIFactory"]),
    createInstance: iid => screen.QueryInterface(iid),
});
Services.pushdScreen = screen;
"""
"""A screen in the place of the desktop's: what Firefox would show there, buttons included, and a way to press them."""


class Visit:
    """A browser on a site's page."""

    def __init__(self, marionette, site, home, service):
        self.marionette, self.site, self.home, self.service = marionette, site, home, service

    async def js(self, script, *arguments, chrome=False):
        return await self.marionette.run(script, *arguments, chrome=chrome)

    async def command(self, *command):
        """What a command's callback hears."""
        script = """
        const told = new Promise((done, failed) => Gravitec.push([...given[0], done, failed]));
        return Promise.race([told, new Promise(done => setTimeout(done, 2000, null))]);
        """
        return await self.js(script, list(command))

    async def load(self, path):
        await self.marionette("Marionette:SetContext", value="content")
        await self.marionette("WebDriver:Navigate", url=self.home + path)

    async def again(self, look):
        """What this gives within a few seconds, or after the page was loaded anew.

        A fresh profile may answer only from the second load on: its push service is still connecting in the first.
        """
        try:
            return await until(look, 5)
        except TimeoutError:
            await self.marionette("Marionette:SetContext", value="content")
            await self.marionette("WebDriver:Refresh")
            return await until(look)

    async def follower(self):
        """What the page knows of its subscription, once it has one."""
        return await self.again(lambda: self.command("getSubscription"))

    async def registered(self):
        """What is told of a registration that the page asked for."""
        return await self.again(lambda: self.command("registerUserForPush"))

    async def subscribed_elsewhere(self):
        """The endpoint of a subscription of the site's worker with somebody else's key."""
        script = """
        const pair = await crypto.subtle.generateKey({name: "ECDSA", namedCurve: "P-256"}, true, ["sign"]);
        const key = await crypto.subtle.exportKey("raw", pair.publicKey);
        const registration = await navigator.serviceWorker.register("/push-worker.js");
        await navigator.serviceWorker.ready;
        const made = registration.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key});
        const endpoint = made.then(subscription => subscription.endpoint);
        return Promise.race([endpoint, new Promise(done => setTimeout(done, 4000, null))]);
        """
        return await self.again(lambda: self.js(script))

    async def heard(self, *names):
        """What the page's callbacks heard, once all of these were called."""
        heard = await self.js("return window.heard")
        return heard if {*names} <= {each[0] for each in heard} else None

    async def send(self, payload, **more):
        """The id of a push to this browser by its tag."""
        status, body = await self.site.push(payload=payload, audience={"tags": ["cars"]}, **more)
        assert status == 200, body
        return body["id"]

    async def moved(self, endpoint):
        """What the page knows of its subscription, once that is another."""
        told = await self.command("getSubscription")
        return told if told is not None and told["endpoint"] != endpoint else None

    async def dark(self):
        """Whether no notification is on the screen."""
        script = f'return [...Services.wm.getEnumerator(null)].every(each => each.document.documentURI !== "{ALERTS}");'
        return await self.js(script, chrome=True)

    async def alert(self):
        """The texts of the notification that is on the screen, once there is one."""
        script = f"""
        const shown = [...Services.wm.getEnumerator(null)].filter(each => each.document.documentURI === "{ALERTS}");
        const ready = shown.find(each => each.document.readyState === "complete");
        const text = id => ready.document.getElementById(id).value || ready.document.getElementById(id).textContent;
        return ready ? [text("alertTitleLabel"), text("alertTextLabel")] : null;
        """
        return await until(lambda: self.js(script, chrome=True))

    async def press(self, what):
        """Clicks what is on the screen."""
        script = f"""
        for (const each of Services.wm.getEnumerator(null))
            if (each.document.documentURI === "{ALERTS}") each.document.querySelector(given[0]).click();
        """
        await self.js(script, what, chrome=True)

    async def opened(self, path):
        """Whether a tab shows this page of the site."""
        script = (
            "return Services.wm.getMostRecentWindow('navigator:browser').gBrowser.browsers.map(b => b.currentURI.spec)"
        )
        return self.home + path in await self.js(script, chrome=True)

    async def figures(self, message, **expected):
        """The status of a message, once it is so."""

        async def look():
            status, body = await self.site("GET", f"/api/v3/messages/{message}")
            return body if status == 200 and expected.items() <= body.items() else None

        return await until(look)


async def until(look, patience_s=PATIENCE_S):
    async with asyncio.timeout(patience_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


SHOWN = {"alerts.useSystemBackend": False, "dom.webnotifications.actions.enabled": True}
"""Firefox shows notifications by itself then, in windows that can be looked at and clicked."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory):
    """A daemon, and the push service of its browsers."""
    service = PushService(tmp_path_factory.mktemp("push"))
    await service.start()
    dialects = DialectsConfig(gravitec_plain_http=True)
    try:
        async with running(webpush=config_for(service, encrypt_workers=0), dialects=dialects) as world:
            yield world, service
    finally:
        await service.stop()


@asynccontextmanager
async def visiting(served):
    """A site, and a Firefox on none of its pages yet."""
    world, service = served
    tenant = await world.tenant(credential=False)
    vapid = {"secret": {"type": "vapid", "subject": "mailto:push@example.com"}}
    await tenant.server.ok("POST", "/credentials", vapid)
    made = await tenant.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
    site = Site(tenant, made["key"], made["secret"])
    names = {"key": made["key"]["identity"], "root": site.root}
    async with (
        serving(names) as home,
        launched(home + "/blank", service.browser_port, *OPTIONS, **PREFERENCES, **SHOWN) as profile,
        driven(profile) as marionette,
    ):
        yield Visit(marionette, site, home, service)


@asynccontextmanager
async def serving(names):
    """The address of a site's pages."""

    async def answer(request):
        texts = {
            "/": PAGE.format(**names, auto="true"),
            "/asks-later": PAGE.format(**names, auto="false"),
            "/push-worker.js": WORKER.format(**names),
        }
        kind = "text/javascript" if request.path.endswith(".js") else "text/html"
        return web.Response(text=texts.get(request.path, "<!doctype html><title>Other</title>"), content_type=kind)

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_page_registers_is_tagged_and_gets_what_a_server_sends(served):
    async with visiting(served) as visit:
        await visit.js(SCREEN, chrome=True)
        # A former provider's subscription: the user has agreed to it, and is not asked again.
        await visit.load("/blank")
        former = await visit.subscribed_elsewhere()

        await visit.load("/")
        told = await visit.follower()
        assert set(told) >= {"regID", "endpoint", "p256dh", "auth", "browser", "lang"}
        assert told["endpoint"] != former
        assert await visit.command("isSubscribed") is True
        data = await visit.command("getSubscriptionData")
        assert (data["permission"], data["subscription"]) == ("granted", told)
        heard = await until(lambda: visit.heard("afterSubscription", "tagged"))
        assert dict(heard)["afterSubscription"] == told

        # Tags and an alias, as page and server see them.
        await visit.command("segmentation.setTags", ["one", "two"])
        await visit.command("segmentation.removeTag", "ONE")
        await visit.command("addTag", "Cars")
        await visit.command("setAlias", "customer 7")
        assert sorted(await visit.command("getTags")) == ["Cars", "two"]
        status, alias = await visit.site("GET", f"/api/v3/alias?regId={told['regID']}")
        assert (status, alias["alias"], alias["isActiveFollower"]) == (200, "customer 7", "true")

        # Shown, and clicked: the link opens.
        payload = {"title": "Title", "message": "Text", "redirect_url": visit.home + "/news"}
        sent = await visit.send(payload)
        assert await visit.alert() == ["Title", "Text"]
        await visit.figures(sent, send=1, received=1, clicked=0, closed=0)
        await visit.press("#alertBox")
        await visit.figures(sent, send=1, received=1, clicked=1, closed=0)
        await until(lambda: visit.opened("/news"))
        await until(visit.dark)

        # Closed by its reader; and by its time, which is nobody's doing.
        sent = await visit.send(payload)
        await visit.alert()
        await visit.press("#alert-close")
        await visit.figures(sent, received=1, clicked=0, closed=1)
        sent = await visit.send(payload, display_time=1)
        await visit.alert()
        await until(visit.dark)
        await visit.figures(sent, received=1, clicked=0, closed=0)

        # A button leads elsewhere. Firefox's own windows show none, so this one is heard by a screen of ours.
        await visit.js("Services.prefs.setBoolPref('alerts.useSystemBackend', true)", chrome=True)
        picture = visit.home + "/icon.png"
        buttons = [{"title": "Read", "url": visit.home + "/read"}, {"title": "Later", "url": visit.home + "/later"}]
        sent = await visit.send({**payload, "icon": picture, "buttons": buttons}, display_time=0)
        shown = await until(lambda: visit.js("return Services.pushdScreen?.described ?? null", chrome=True))
        assert shown == {"actions": ["Read", "Later"], "stays": True, "icon": picture}
        await visit.js("Services.pushdScreen.press(1)", chrome=True)
        await visit.figures(sent, received=1, clicked=1, closed=0)
        await until(lambda: visit.opened("/later"))

        # The push service gives the browser another address: its worker says so, and stays the same follower.
        await visit.service.browsers.forget()
        moved = await until(lambda: visit.moved(told["endpoint"]))
        assert moved["regID"] == told["regID"]
        sent = await visit.send(payload)
        await visit.figures(sent, send=1, received=1)

        await visit.command("unsubscribe")
        assert await visit.command("isSubscribed") is False
        assert (await visit.site("GET", f"/api/v3/alias?regId={told['regID']}"))[1]["isActiveFollower"] == "false"


async def test_a_page_that_waits_asks_when_it_is_told_to(served):
    async with visiting(served) as visit:
        await visit.load("/asks-later")
        assert await visit.command("isSubscribed") is False
        assert await visit.command("getSubscription") is None
        assert await visit.command("getTags") == []
        assert (await visit.site.tenant.server.ok("GET", "/devices"))["items"] == []
        result = await visit.registered()
        assert result["permission"] == "granted"
        assert result["subscription"]["regID"]
        assert await visit.command("subscriptionResult") == result
        await until(lambda: visit.heard("afterSubscription", "tagged"))
        assert await visit.command("getTags") == ["Cars"]
