// A site's pages: browsers subscribe and register here, and say what they are tagged with.
// pushd appends what this function is called with: {appKey, publicKey}.
(site => {
    "use strict";

    const script = document.currentScript;
    const base = script.src.slice(0, script.src.indexOf("/storage/"));
    const RENEWED_AFTER_MS = 7 * 24 * 3600 * 1000;
    const supported = "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
    const warn = error => console.warn("Gravitec:", error?.message ?? error);

    // What is known of this browser, {regID, key, beacons, endpoint, publicKey, at}: the worker reads it, too.
    const place = `/.gravitec/${encodeURIComponent(site.appKey)}`;
    const load = async () => (await (await caches.open("gravitec")).match(place))?.json();
    const save = async known => (await caches.open("gravitec")).put(place, Response.json(known));
    const forget = async () => (await caches.open("gravitec")).delete(place);

    const settling = () => {
        const settled = {};
        settled.promise = new Promise(resolve => { settled.resolve = resolve; });
        return settled;
    };
    const followed = settling();   // once this browser is registered: what is known of it
    const fresh = settling();      // once it has registered on this page
    const decided = settling();    // once the user was asked

    const call = async (method, path, body, key) => {
        const answer = await fetch(`${base}/api/sites/followers${path}`, {
            method,
            keepalive: true,
            headers: { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) },
            ...(body && { body: JSON.stringify({ appKey: site.appKey, ...body }) }),
        });
        const told = await answer.json().catch(() => ({}));
        if (!answer.ok) {
            const detail = told.errorDescription ?? told.error_message ?? `status ${answer.status}`;
            throw Object.assign(new Error(detail), { status: answer.status });
        }
        return told;
    };

    const octets = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), each => each.charCodeAt(0));
    const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

    const options = { autoRegister: true, workerPath: script.dataset.worker || "/push-worker.js" };

    const active = registration => new Promise((resolve, reject) => {
        const worker = registration.installing ?? registration.waiting;
        if (registration.active || !worker) return resolve(registration);
        worker.addEventListener("statechange", () => {
            if (worker.state === "activated") resolve(registration);
            if (worker.state === "redundant") reject(new Error("the service worker could not be installed"));
        });
    });

    // The registration that has a subscription already, whatever its script is called; else the one of workerPath.
    const registration = async () => {
        for (const each of await navigator.serviceWorker.getRegistrations()) {
            if (await each.pushManager.getSubscription()) return each;
        }
        return active(await navigator.serviceWorker.register(options.workerPath));
    };

    const register = async (subscription, known) => {
        const about = {
            subscription: subscription.toJSON(),
            lang: navigator.language,
            timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone,
        };
        if (known) {
            try {
                return await call("POST", "", { ...about, regID: known.regID }, known.key);
            } catch (error) {
                if (error.status !== 403) throw error;   // pushd's secret is another one: this browser begins anew
            }
        }
        return call("POST", "", about);
    };

    // Registers this browser, whose user has agreed. Subscriptions of another key, such as a former provider's, are
    // replaced: the user is not asked again.
    const subscribe = async () => {
        if (!site.publicKey) throw new Error("the app has no VAPID credential yet");
        const { pushManager } = await registration();
        let subscription = await pushManager.getSubscription();
        const key = subscription?.options?.applicationServerKey;
        if (subscription && !(key && text(key) === site.publicKey)) {
            await subscription.unsubscribe();
            subscription = null;
        }
        subscription ??= await pushManager.subscribe({
            userVisibleOnly: true,
            applicationServerKey: octets(site.publicKey),
        });
        let known = await load();
        const same = known?.endpoint === subscription.endpoint;
        if (!same || Date.now() - known.at > RENEWED_AFTER_MS) {
            const { endpoint } = subscription;
            const told = await register(subscription, known);
            known = { ...told, endpoint, publicKey: site.publicKey, at: Date.now() };
            await save(known);
        }
        followed.resolve(known);
        if (!same) fresh.resolve();
        return known;
    };

    const subscriptionNow = async () => {
        for (const each of await navigator.serviceWorker.getRegistrations()) {
            const subscription = await each.pushManager.getSubscription();
            if (subscription) return subscription;
        }
        return null;
    };

    let ready = Promise.resolve();   // a browser whose user agreed long ago is first registered, then described
    const described = async () => {
        await ready;
        const [known, subscription] = supported ? [await load(), await subscriptionNow()] : [];
        if (!known || !subscription || known.endpoint !== subscription.endpoint) return null;
        const { keys } = subscription.toJSON();
        const browser = /Firefox|Edg|OPR|Chrome|Safari/.exec(navigator.userAgent)?.[0].toUpperCase() ?? "OTHER";
        return { regID: known.regID, endpoint: known.endpoint, ...keys, browser, lang: navigator.language };
    };
    const standing = async () => ({
        permission: supported ? Notification.permission : "denied",
        subscription: await described(),
    });

    const ask = async () => {
        if (!supported) return standing();
        const permission = await Notification.requestPermission();
        if (permission === "granted") await subscribe();
        const result = await standing();
        if (permission !== "default") decided.resolve(result);
        return result;
    };

    // Tags and alias are written one after the other, and once there is somebody who has them.
    let last = Promise.resolve();
    const write = (method, path, body) => {
        last = last.catch(() => {}).then(async () => {
            const { regID, key } = await followed.promise;
            return call(method, path, { regID, ...body }, key);
        });
        return last;
    };
    const own = async () => {
        await ready;
        const known = supported && await load();
        if (!known) return { alias: null, tags: [] };
        await last.catch(() => {});
        const query = new URLSearchParams({ appKey: site.appKey, regID: known.regID });
        return call("GET", `/identify?${query}`, null, known.key);
    };
    const list = tags => (Array.isArray(tags) ? tags : [tags]).map(String);

    const actions = {
        init: given => {
            const begun = begin(given);
            if (supported && Notification.permission === "granted") ready = begun.catch(() => {});
            return begun;
        },
        isSubscribed: async () => await described() !== null && Notification.permission === "granted",
        getSubscription: described,
        getSubscriptionData: standing,
        registerUserForPush: ask,
        afterSubscription: () => fresh.promise.then(described),
        subscriptionResult: () => decided.promise,
        addTag: (...tags) => write("POST", "/tags", { tags: tags.flatMap(list) }),
        setTags: tags => write("PUT", "/tags", { tags: list(tags) }),
        removeTag: tag => write("DELETE", "/tag", { tag: String(tag) }),
        removeAllTags: () => write("DELETE", "/tags", {}),
        getTags: async () => (await own()).tags,
        setAlias: alias => write("PUT", "/alias", { alias: alias == null ? null : String(alias) }),
        unsubscribe: async () => {
            const known = await load();
            await (await subscriptionNow())?.unsubscribe();
            await forget();
            if (known) await call("DELETE", "", { regID: known.regID }, known.key);
        },
    };

    // ["name", …values, done, failed]: what is a function hears how it went.
    const run = ([name, ...given]) => {
        const action = actions[String(name).replace(/^segmentation\./, "")];
        if (!action) return warn(`there is no command ${name}`);
        const [done, failed = warn] = given.filter(each => typeof each === "function");
        const values = given.filter(each => typeof each !== "function");
        // As in the vendor's, a callback is called later, never while the page is still pushing.
        Promise.resolve().then(() => action(...values)).then(done).catch(failed);
    };

    let begun = false;
    const begin = async (given = {}) => {
        Object.assign(options, given);
        if (!supported) return;
        const { permission } = Notification;
        if (permission === "granted" && (options.autoRegister || await subscriptionNow())) {
            await subscribe();
            decided.resolve(standing());
        } else if (permission === "default" && options.autoRegister && !begun) {
            begun = true;
            const result = await ask();
            // Some browsers ask only while the user does something on the page.
            if (result.permission === "default") addEventListener("click", () => ask().catch(warn), { once: true });
        } else if (permission === "denied") {
            decided.resolve(standing());
        }
    };

    const start = () => {
        const early = Array.isArray(window.Gravitec) ? window.Gravitec : [];
        window.Gravitec = { push: (...commands) => commands.forEach(run) };
        if (!early.some(([name]) => name === "init")) run(["init"]);
        early.forEach(run);
    };
    // Not before the rest of the page, which may still say how: a script from the cache would be faster.
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
    else start();
})
