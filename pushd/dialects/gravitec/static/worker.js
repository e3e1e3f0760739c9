// A site's service worker imports this: pushes are shown, what becomes of them is reported, subscriptions renewed.
// The site's own file sets self.appKey, and self.hostUrl to where this script is.
(() => {
    "use strict";

    const { appKey, hostUrl } = self;
    const base = hostUrl.replace(/\/sw\/?$/, "");
    const SHOWN_S = 60;
    const BROWSERS_SHOW_S = 5;      // at least so long any browser shows a notification by itself
    const WORKERS_LIVE_S = 240;     // browsers end workers that take longer over an event
    const RETRIED_AFTER_MS = 5000;

    // What the page knows of this browser: {regID, key, beacons, endpoint, publicKey, at}.
    const place = `/.gravitec/${encodeURIComponent(appKey)}`;
    const load = async () => (await (await caches.open("gravitec")).match(place))?.json();
    const save = async known => (await caches.open("gravitec")).put(place, Response.json(known));

    const octets = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), each => each.charCodeAt(0));
    const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

    const post = async (url, body, headers) => {
        const answer = await fetch(url, { method: "POST", keepalive: true, headers, body: JSON.stringify(body) });
        if (!answer.ok) throw Object.assign(new Error(`status ${answer.status}`), { status: answer.status });
        return answer.json();
    };

    // A beacon: signed with this browser's own key, so that it needs no other.
    const report = async (id, event, button) => {
        const known = await load();
        if (!known) return;
        const hmac = { name: "HMAC", hash: "SHA-256" };
        const key = await crypto.subtle.importKey("raw", octets(known.key), hmac, false, ["sign"]);
        const signed = new TextEncoder().encode(`${id}\n${event}\n${button || ""}`);
        const beacon = {
            install_id: known.regID,
            notification_id: id,
            event,
            at: Date.now() / 1000,
            signature: text(await crypto.subtle.sign("HMAC", key, signed)),
            ...(button && { button }),
        };
        const tell = () => post(base + known.beacons, { beacons: [beacon] }, { "Content-Type": "text/plain" });
        await tell().catch(async error => {
            if (error.status < 500) throw error;
            await pause(RETRIED_AFTER_MS);
            await tell();
        });
    };

    // Notifications that were clicked, or closed by us: some browsers tell of their end as if the reader had closed them.
    const ended = new Set();
    const end = notification => {
        ended.add(notification.data.gravitec.id);
        notification.close();
    };

    // Notifications whose time is over; a worker that was ended closes them when it is next here.
    const close = async () => {
        for (const each of await self.registration.getNotifications()) {
            if (each.data?.gravitec?.until <= Date.now()) end(each);
        }
    };

    const show = async ({ notification: shown, pushd: { id, display_time_s: seconds = SHOWN_S } }) => {
        const links = Object.fromEntries((shown.actions ?? []).map(each => [each.action, each.navigate]));
        const gravitec = { id, url: shown.navigate, links, ...(seconds && { until: Date.now() + seconds * 1000 }) };
        await self.registration.showNotification(shown.title ?? "", {
            ...shown,
            requireInteraction: seconds === 0 || seconds > BROWSERS_SHOW_S,
            data: { ...shown.data, gravitec },
        });
        const passed = seconds && seconds <= WORKERS_LIVE_S ? pause(seconds * 1000).then(close) : close();
        await Promise.allSettled([report(id, "received"), passed]);
    };

    self.addEventListener("install", () => self.skipWaiting());

    self.addEventListener("push", event => {
        let told = null;
        try {
            told = event.data?.json();
        } catch {
            return;   // another sender's
        }
        if (told?.notification && told.pushd?.id) event.waitUntil(show(told));
    });

    self.addEventListener("notificationclick", event => {
        const ours = event.notification.data?.gravitec;
        if (!ours) return;
        end(event.notification);
        const url = ours.links[event.action] ?? ours.url ?? self.registration.scope;
        event.waitUntil(Promise.allSettled([self.clients.openWindow(url), report(ours.id, "clicked", event.action)]));
    });

    self.addEventListener("notificationclose", event => {
        const ours = event.notification.data?.gravitec;
        if (ours && !ended.has(ours.id)) event.waitUntil(report(ours.id, "dismissed"));
    });

    // The push service has given this browser another address, or taken the old one away.
    self.addEventListener("pushsubscriptionchange", event => event.waitUntil((async () => {
        const known = await load();
        if (!known) return;
        const subscription = event.newSubscription ?? await self.registration.pushManager.subscribe({
            userVisibleOnly: true,
            applicationServerKey: octets(known.publicKey),
        });
        const body = { appKey, regID: known.regID, subscription: subscription.toJSON() };
        const headers = { "Content-Type": "application/json", Authorization: `Bearer ${known.key}` };
        const told = await post(`${base}/api/sites/followers`, body, headers);
        await save({ ...known, ...told, endpoint: subscription.endpoint, at: Date.now() });
    })()));
})();
