"""Writes pushd/docs/message.md: what each field of a message becomes on each platform: `python -m tests.fields`.

Every line is found by rendering a message with and without the field, so the page cannot say what the code does not do.
"""

from itertools import zip_longest

import msgspec
import orjson

from protocols import apns
from pushd.batch import Rendered
from pushd.content.kinds import kinds
from pushd.content.platforms import RENDERERS, render
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.message import Android, Button, LiveActivity, Media, Message, PushType, Sound
from pushd.model.notification import Send
from tests.test_tidy import ROOT

PAGE = ROOT / "pushd" / "docs" / "message.md"

ID, NOW = 7, 1_700_000_000.0
PLAIN = {"body": "Body"}
ACTIVITY = LiveActivity(event="update", content_state={"eta": 5})

FIELDS = {
    "title": {"title": "Title"},
    "subtitle": {"subtitle": "Subtitle"},
    "body": {"body": "Another"},
    "url": {"url": "https://example.com/o"},
    "data": {"data": {"order": "4711"}},
    "icon": {"icon": "https://example.com/i.png"},
    "image": {"image": "https://example.com/p.jpg"},
    "media": {"media": [Media(url="https://example.com/m.mp4", type="video/mp4")]},
    "buttons": {"buttons": [Button(id="yes", text="Yes", url="https://example.com/y")]},
    "display_time_s": {"display_time_s": 30},
    "display_time_s: 0": {"display_time_s": 0},
    "priority: normal": {"priority": "normal"},
    "badge": {"badge": 3},
    "badge: 0": {"badge": 0},
    "badge_increment": {"badge_increment": -1},
    "sound": {"sound": "chime.caf"},
    "sound: none": {"sound": "none"},
    "sound, critical": {"sound": Sound(name="alarm.caf", critical=True, volume=0.5)},
    "category": {"category": "ORDER"},
    "thread": {"thread": "orders"},
    "interruption_level": {"interruption_level": "time-sensitive"},
    "relevance": {"relevance": 0.5},
    "mutable_content": {"mutable_content": True},
    "content_available": {"content_available": True},
    "android.priority": {"android": Android(priority="normal")},
    "android.sound": {"android": Android(sound="chime")},
    "android.picture": {"android": Android(picture="https://example.com/a.jpg")},
    "android.channel": {"android": Android(channel="orders")},
    "android.notification_type": {"android": Android(notification_type="orders")},
    "android.color": {"android": Android(color="#336699")},
    "android.small_icon": {"android": Android(small_icon="ic_order")},
    "android.click_action": {"android": Android(click_action="OPEN_ORDER")},
    "push_type: background": {"push_type": PushType.BACKGROUND, "body": None},
    "live_activity": {"push_type": PushType.LIVEACTIVITY, "body": None, "live_activity": ACTIVITY},
}
"""Every field of a message with a telling value, over a message that has only a body."""

SENDS = {"ttl_s": {"ttl_s": 3600}, "ttl_s: 0": {"ttl_s": 0}, "collapse_id": {"collapse_id": "order-4711"}}
"""What the send says beside its message."""

HEAD = """# What a message becomes

This page is made from the code (`python -m tests.fields`): each line was found by rendering a message with and without
the field. A path is one of the JSON that the platform gets, `header` a header of the request; behind it stands the
value. A dash: the field means nothing there, and the platform gets the rest of the message. Beyond this,
`overrides.<platform>` is merged over the rendered body key by key. Mails are sent only where they are asked for, with
push_type `email`, which takes title, body, url and `overrides.email` (`subject`, `text`, `html`) alone.
"""


def page():
    platforms = list(RENDERERS)
    lines = [HEAD, "| field | " + " | ".join(platforms) + " |", "|---" * (len(platforms) + 1) + "|"]
    for name, fields in FIELDS.items():
        lines.append(_line(name, platforms, Message(**PLAIN | fields), {}))
    for name, fields in SENDS.items():
        lines.append(_line(f"{name} (of the send)", platforms, Message(**PLAIN), fields))
    reaches = {each.value: ", ".join(sorted(kind.value for kind in kinds(each))) for each in PushType}
    lines += ["", "Which addresses a push type reaches:", "", "| push_type | kinds |", "|---|---|"]
    lines += [f"| {name} | {reached} |" for name, reached in reaches.items()]
    return "\n".join(lines) + "\n"


def covered():
    """The fields of the model that the page has a line for."""
    return {name.split(":")[0].split(",")[0] for name in FIELDS} | {"push_type", "overrides"}


def _line(name, platforms, message, of_send):
    return f"| {name} | " + " | ".join(_becomes(platform, message, of_send) for platform in platforms) + " |"


def _becomes(platform, message, of_send):
    if platform == "email" and message.push_type is PushType.ALERT:
        message = msgspec.structs.replace(message, push_type=PushType.EMAIL)
    if platform not in {kind.gateway for kind in kinds(message.push_type)}:
        return "not sent"
    with_it = _rendered(platform, Send(audience=Broadcast(), message=message, **of_send))
    if not isinstance(with_it, Rendered):
        return "not sent"
    plain = Message(**PLAIN, push_type=message.push_type if platform == "email" else PushType.ALERT)
    without = _rendered(platform, Send(audience=Broadcast(), message=plain))
    before, after = _leaves(without), _leaves(with_it)
    changes = [_say(path, value) for path, value in after.items() if before.get(path) != value]
    changes += [f"no {path}" for path in before if path not in after]
    return "<br>".join(changes) or "–"


def _rendered(platform, send):
    return render(platform, send, Settings(), notification_id=ID, now=NOW)


def _leaves(rendered):
    """Paths and values of a rendered message, headers and expiry among them."""
    try:
        body = _flat("", orjson.loads(rendered.payload))
    except orjson.JSONDecodeError:
        body = {f"line {number}": line for number, line in enumerate(rendered.payload.decode().splitlines(), 1)}
    headers = {f"header {name}": value for name, value in rendered.headers}
    if rendered.collapse_id is not None:
        headers[f"header {apns.COLLAPSE_ID}"] = rendered.collapse_id
    return body | headers | {"expires": int(rendered.expires_at - NOW) if rendered.expires_at else 0}


def _flat(path, value):
    if isinstance(value, dict) and value:
        pieces = [_flat(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
        return {name: leaf for piece in pieces for name, leaf in piece.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _flat(f"{path}[]", value[0])
    return {path: value}


def _say(path, value):
    if path == "expires":
        return f"expires after {value} s" if value else "one attempt, not stored"
    if value == int(NOW):
        return f"`{path}`: the time of release"
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    shown = shown if len(shown) <= 40 else "…"
    return f"`{path}`: {shown}".replace("|", "\\|").replace("\n", " ⏎ ")


def differences():
    """Lines of the page that are not what the code says now."""
    kept = PAGE.read_text() if PAGE.exists() else ""
    pairs = zip_longest(kept.splitlines(), page().splitlines())
    return [(old, new) for old, new in pairs if old != new]


if __name__ == "__main__":
    PAGE.write_text(page())
