"""A real Firefox, headless, whose push service is ours: it subscribes on a page of ours and says what it received."""

import asyncio
import json
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.mortal import mortal

PAGE = """<!doctype html><meta charset="utf-8"><script>
const key = "%s";
const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
// A fresh profile may answer only from the second load on: its push service is still connecting in the first.
const again = setTimeout(() => location.reload(), 4000);
(async () => {
  try {
    const worker = await navigator.serviceWorker.register("/worker.js");
    await navigator.serviceWorker.ready;
    const made = await worker.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: bytes(key)});
    clearTimeout(again);
    await fetch("/subscribed", {method: "POST", body: JSON.stringify(made)});
  } catch (error) {
    await fetch("/trouble", {method: "POST", body: String(error)});
  }
})();
</script>"""

WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(clients.claim()));
self.addEventListener("push", event =>
  event.waitUntil(fetch("/received", {method: "POST", body: event.data ? event.data.text() : ""})));
"""

PREFERENCES = {
    "dom.push.enabled": True,
    "dom.push.connection.enabled": True,
    "dom.push.testing.allowInsecureServerURL": True,
    "dom.push.testing.ignorePermission": True,
    "permissions.default.desktop-notification": 1,
    "dom.serviceWorkers.testing.enabled": True,
    # Nothing else leaves the machine.
    "app.update.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "",
    "toolkit.telemetry.enabled": False,
}

SUBSCRIBED_WITHIN_S = 60.0
RECEIVED_WITHIN_S = 20.0
ENDS_WITHIN_S = 10.0


class Firefox:
    """The page's side of the browser: its subscription, and what its service worker received."""

    def __init__(self):
        self._subscriptions = asyncio.Queue()
        self._received = asyncio.Queue()
        self.troubles = []

    async def subscription(self):
        """The subscription as the page's script saw it: endpoint and keys."""
        try:
            return json.loads(await asyncio.wait_for(self._subscriptions.get(), SUBSCRIBED_WITHIN_S))
        except TimeoutError:
            raise AssertionError(f"Firefox did not subscribe: {self.troubles}") from None

    async def received(self):
        """The next plaintext that the service worker got."""
        return await asyncio.wait_for(self._received.get(), RECEIVED_WITHIN_S)

    async def hear(self, request):
        """Takes what page and worker report."""
        heard = {"/subscribed": self._subscriptions.put_nowait, "/received": self._received.put_nowait}
        heard.get(request.path, self.troubles.append)(await request.text())
        return web.Response()


@asynccontextmanager
async def launched(url, push_port, *options, **preferences):
    """The profile of a running Firefox that shows this page, and whose push service is on `push_port`."""
    profile = Path(tempfile.mkdtemp(prefix="pushd-firefox-"))
    preferences = PREFERENCES | {"dom.push.serverURL": f"ws://127.0.0.1:{push_port}/"} | preferences
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (profile / "user.js").write_text("".join(lines))
    process = await asyncio.create_subprocess_exec(
        *mortal("firefox-esr", "--headless", "--no-remote", "--profile", str(profile), *options, url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"HOME": str(profile)},
    )
    try:
        yield profile
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


@asynccontextmanager
async def firefox(application_server_key, push_port):
    """A running Firefox that subscribes with this key (base64url) at the push service on `push_port`."""
    browser = Firefox()

    async def page(_request):
        return web.Response(text=PAGE % application_server_key, content_type="text/html")

    async def worker(_request):
        return web.Response(text=WORKER, content_type="text/javascript")

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/worker.js", worker), web.post("/{what}", browser.hear)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with launched(f"http://127.0.0.1:{runner.addresses[0][1]}/", push_port):
            yield browser
    finally:
        await runner.cleanup()
