"""What vendors' client SDKs make of what arrives on a device: strict where they are, so what crashes one fails here.

Written from sections 2.7, 3.5 and 4.5 of what is known of them: a cast that fails there is an assertion here.
"""

import orjson

Crash = AssertionError


def is_(value, kind):
    """The value, of this very type and no other: True is no integer here."""
    assert type(value) is kind, (value, kind)
    return value


def texts(data):
    """Data as Android hands it on: nothing but texts."""
    assert all(type(name) is str and name and type(value) is str for name, value in data.items()), data
    return data


def aps_of(payload):
    """`aps` as iOS reads it."""
    aps = is_(payload["aps"], dict)
    alert = aps.get("alert")
    if alert is not None:
        assert {type(value) for name, value in is_(alert, dict).items() if name in {"title", "subtitle", "body"}} <= {
            str
        }
    for name, kind in {"badge": int, "category": str, "thread-id": str}.items():
        if name in aps:
            is_(aps[name], kind)
    assert aps.get("mutable-content", 1) == aps.get("content-available", 1) == 1
    return aps


# ConnectyCube


def cube_android(message):
    """Title, text and the app's own data, of a message that FCM brought; the SDK shows it, so FCM must not."""
    assert "notification" not in message
    assert "notification" not in message["android"]
    data = dict(texts(message["data"]))
    return data.pop("title", None), data.pop("message", None), data


def cube_ios(payload):
    aps = aps_of(payload)
    return aps.get("alert", {}).get("title"), aps.get("alert", {}).get("body"), {**payload, "aps": None}


def cube_web(payload):
    """As the vendor's sample of a service worker: `data.title`, `data.message`, `data.photo`."""
    data = dict(is_(payload["data"], dict))
    return data.pop("title", None), is_(data.pop("message"), str), data


# Kumulos


def _kumulos_app_data(app_data):
    message = is_(is_(app_data, dict)["k.message"], dict)
    assert is_(message["type"], int) == 1
    number = is_(is_(message["data"], dict)["id"], int)
    assert number != 0
    for button in is_(app_data.get("k.buttons", []), list):
        assert is_(button["id"], str)
        assert is_(button["text"], str)
    if "k.deepLink" in app_data:
        is_(app_data["k.deepLink"]["data"]["id"], int)
    for name in ("k.channel", "k.notificationType"):
        assert is_(app_data.get(name, ""), str) or name not in app_data
    return number


def kumulos_android(data):
    """What the SDK shows of the data of FCM or HMS: None where it passes it over."""
    custom = orjson.loads(texts(data)["custom"])
    assert custom["u"] is None or is_(custom["u"], str)
    number = _kumulos_app_data(custom["a"])
    shown = {name: data[name] for name in ("title", "alert", "bicon", "sound", "bgn") if name in data}
    assert all(shown.values())
    assert shown.get("bgn", "1") == "1"
    return {"id": number, "url": custom["u"], "a": custom["a"], **shown}


def kumulos_fcm(message):
    assert "notification" not in message
    assert "notification" not in message["android"]
    return kumulos_android(message["data"])


def kumulos_hms(message):
    assert "notification" not in message["android"]
    return kumulos_android(orjson.loads(is_(message["data"], str)))


def kumulos_ios(payload, badge=None):
    """What the extension makes; `badge` is what is stored from before."""
    aps, custom = aps_of(payload), is_(payload["custom"], dict)
    number = _kumulos_app_data(custom["a"])
    if "u" in custom:
        is_(custom["u"], str)
    made = aps.get("badge")
    if "badge_inc" in custom:
        assert made is not None, "increments without a badge are ignored"
        made = made if badge is None else max(badge + is_(custom["badge_inc"], int), 0)
    picture = is_(payload.get("attachments", {}), dict).get("pictureUrl")
    if picture is not None:
        assert is_(picture, str)[:8]
        assert len(picture) >= 8
    return {"id": number, "aps": aps, "url": custom.get("u"), "a": custom["a"], "badge": made, "picture": picture}


def kumulos_web(payload):
    """What the worker shows; None where it shows nothing."""
    number = _kumulos_app_data(is_(payload["data"], dict))
    for name in ("url", "image", "icon"):
        assert payload[name] is None or is_(payload[name], str)
    return {"id": number, **{name: payload[name] for name in ("title", "msg", "url", "image", "icon", "data")}}


# Backendless


def backendless_android(message, templates=()):
    """What the SDK shows of FCM's data: title, text, sub text and sound, of headers or of a template."""
    assert "notification" not in message
    assert "notification" not in message["android"]
    data = texts(message["data"])
    if "android_immediate_push" in data:
        template = is_(orjson.loads(data["android_immediate_push"]), dict)
        return {"template": template, "message": data["message"], "data": data}
    if "template_name" in data:
        assert data["template_name"] in templates
        return {"template": data["template_name"], "message": data["message"], "data": data}
    names = {"title": "android-content-title", "sub": "android-summary-subtext", "sound": "android-content-sound"}
    return {"message": data.get("message"), "data": data, **{name: data.get(key) for name, key in names.items()}}


def backendless_ios(payload, templates=()):
    """What the extension shows: it runs where the content is mutable, and crashes on what it does not know."""
    aps = aps_of(payload)
    assert all(type(value) is str for name, value in payload.items() if name != "aps"), payload
    template = None
    if aps.get("mutable-content"):
        assert not ("ios_immediate_push" in payload and "template_name" in payload)
        if "ios_immediate_push" in payload:
            template = is_(orjson.loads(payload["ios_immediate_push"]), dict)
        elif "template_name" in payload:
            template = payload["template_name"]
            assert template in templates
    text = payload.get("message") or aps.get("alert", {}).get("body")
    return {"template": template, "message": text, "aps": aps, "headers": payload}
