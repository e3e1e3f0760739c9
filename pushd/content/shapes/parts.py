"""What shapes have in common: texts as vendors' SDKs have them, and data as the flat texts that FCM and HMS carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from protocols import fcm
from pushd.content.apns import SILENT
from pushd.content.size import encode
from pushd.model.app import Settings
from pushd.model.message import Message, PushType, Sound

RESERVED = "data"
"""Where keys that FCM keeps for itself are, as the JSON of an object."""


def title(message: Message, app: Settings) -> str | None:
    """The title, or the app's default one."""
    return message.title if message.title is not None else app.default_title


def body(message: Message) -> str | None:
    """The subtitle, where there is one, in a line above the body; None where there is neither."""
    return "\n".join(each for each in (message.subtitle, message.body) if each) or None


def sound(message: Message) -> str | None:
    """The name of a sound of the app's own; None for the usual one, and for none."""
    own = message.android.sound if message.android is not None else None
    said = own or message.sound
    name = said.name if isinstance(said, Sound) else said
    return None if name in (None, "", "default", SILENT) else name


def picture(message: Message) -> str | None:
    """The picture that a notification shows."""
    return message.image or next((each.url for each in message.media), None)


def is_alert(message: Message) -> bool:
    """Whether something is to be seen."""
    return message.push_type is PushType.ALERT


def is_message(message: Message) -> bool:
    """Whether vendors' SDKs have pushes of this type at all; the others are the operating system's own."""
    return message.push_type in (PushType.ALERT, PushType.BACKGROUND, PushType.VOIP)


def extras(message: Message) -> dict[str, Any]:
    """What else a message has, by its own names, for apps that know them."""
    values = {
        "url": message.url,
        "icon": message.icon,
        "media": msgspec.to_builtins(message.media),
        "buttons": msgspec.to_builtins(message.buttons),
        "badge_increment": message.badge_increment,
    }
    return {name: value for name, value in values.items() if value not in (None, [])}


def text(value: Any) -> str:
    """A value as FCM's data holds it: what is no text as its JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts; those whose keys FCM keeps for itself are in the JSON of `data`."""
    kept = {name: value for name, value in values.items() if not _is_free(name)}
    told = {name: text(value) for name, value in values.items() if name not in kept}
    return {RESERVED: text(kept), **told} if kept else told


def is_json(value: Any) -> bool:
    """Whether a text is JSON."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_free(name: str) -> bool:
    try:
        fcm.check_data_key(name)
    except ValueError:
        return False
    return True
