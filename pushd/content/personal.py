"""Personal messages: a send whose message differs by device, what it reads of whom, and what comes out for one of them.

A text may read tags (what the send brings, and for single users `user_data`), `user` (`id`, `email` and attributes),
`device` (`locale`, `country` and so on) and `user_data`. Its variants by locale are found as RFC 4647, section 3.4 has
it: `pt-BR` falls back to `pt`, and that to the message itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pushd.badges import COUNTED
from pushd.content.liquid import Budget, Liquid, TemplateError, parse, within
from pushd.content.merge import merge
from pushd.content.texts import Place, replaced, texts
from pushd.errors import Fault, InvalidRequestError
from pushd.model.message import Message
from pushd.model.notification import Send

USER, DEVICE, USER_DATA = "user", "device", "user_data"
RESERVED = frozenset({USER, DEVICE, USER_DATA})
"""Names that no tag may have."""
DEVICE_FIELDS = frozenset({"platform", "os_version", "app_version", "locale", "country", "time_zone"})
VARIED = frozenset(
    {"title", "subtitle", "body", "url", "data", "icon", "image", "media", "buttons", "sound", "android"}
    | {"overrides", "badge", "badge_increment"}
)
"""What may differ by locale; what kind of push it is, and how urgent, may not."""
BADGE_MAX = 2**31 - 1
SOURCES_MAX = 65_536
"""Characters of all texts with gaps of one message or content."""
MARKS_MAX = 200
"""Pieces of Liquid in them."""


class Needs(Struct, frozen=True, kw_only=True):
    """What the texts of a message read."""

    user: frozenset[str] = frozenset()
    """Attributes, `id` and `email`."""
    device: frozenset[str] = frozenset()
    user_data: bool = False
    required: frozenset[str] = frozenset()
    """Tags that must be there."""
    optional: frozenset[str] = frozenset()
    """Tags that may be missing: the texts say what is to be done then."""

    @property
    def tags(self) -> frozenset[str]:
        """All tags."""
        return self.required | self.optional


def needs(value: Any, pointer: str = "") -> Needs:
    """What the texts of a message, or of any JSON, read. InvalidRequestError points at every text that cannot be."""
    paths: set[tuple[str, ...]] = set()
    required: set[str] = set()
    faults: list[Fault] = []
    size = marks = 0
    for place, text in texts(value, pointer):
        size += len(text)
        marks += text.count("{{") + text.count("{%")
        if size > SOURCES_MAX or marks > MARKS_MAX:
            faults.append(Fault(pointer, f"has more than {MARKS_MAX} pieces of Liquid, or {SOURCES_MAX} characters"))
            break
        try:
            parsed = parse(text)
            _check(parsed)
        except TemplateError as error:
            faults.append(Fault(place.pointer, str(error)))
            continue
        paths |= parsed.paths
        required |= {path[0] for path in parsed.paths if path[0] not in parsed.optional}
    if faults:
        raise InvalidRequestError("The template cannot be", faults=faults)
    return Needs(
        user=frozenset(path[1] for path in paths if path[0] == USER),
        device=frozenset(path[1] for path in paths if path[0] == DEVICE),
        user_data=any(path[0] == USER_DATA for path in paths),
        required=frozenset(required - RESERVED),
        optional=frozenset({path[0] for path in paths} - required - RESERVED),
    )


def _check(parsed: Liquid) -> None:
    """TemplateError where it reads of a user or a device what is not known before it is rendered."""
    for path in parsed.paths:
        if path[0] in (USER, DEVICE) and (len(path) == 1 or path[1] == "*"):
            raise TemplateError(f"{path[0]} is read by the name of what is wanted, such as {path[0]}.locale")
        if path[0] == DEVICE and path[1] not in DEVICE_FIELDS:
            raise TemplateError(f"of a device there are {', '.join(sorted(DEVICE_FIELDS))}")


def is_personal(send: Send) -> bool:
    """Whether what goes out differs by device."""
    return send.liquid or bool(send.locales) or send.badge_from is not None


def variants(message: Message, locales: Mapping[str, Mapping[str, Any]], pointer: str = "") -> dict[str, Message]:
    """The whole message of each locale, by its folded name; InvalidRequestError points at what cannot be."""
    made: dict[str, Message] = {}
    faults: list[Fault] = []
    base = msgspec.to_builtins(message)
    for locale, patch in locales.items():
        at = f"{pointer}/locales/{locale}"
        faults += [Fault(f"{at}/{name}", "does not differ by locale") for name in patch if name not in VARIED]
        if fold(locale) in made:
            faults.append(Fault(at, "is there twice"))
        try:
            made[fold(locale)] = msgspec.convert(merge(base, patch), Message)
        except msgspec.ValidationError as error:
            faults.append(Fault(at, str(error)))
    if faults:
        raise InvalidRequestError("A variant cannot be", faults=faults)
    return made


def fold(locale: str) -> str:
    """The form in which two spellings of a locale are alike."""
    return locale.replace("_", "-").lower()


def fallbacks(locale: str) -> Iterator[str]:
    """A folded locale and what it falls back to, the nearest first (RFC 4647 section 3.4)."""
    parts = locale.split("-")
    while parts and parts[0]:
        yield "-".join(parts)
        parts.pop()
        if parts and len(parts[-1]) == 1:
            parts.pop()  # a lone letter begins what was cut off


class Script:
    """What a personal send says, in each of its variants."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self._numbers: dict[str, int] = {"": 0}
        self.is_counted = send.badge_from == COUNTED
        self.messages: list[Message] = [self._counted(send.message)]
        """The message itself, and then those of its variants."""
        self.locales: list[str] = [""]
        """Of each, folded."""
        for locale, message in variants(send.message, send.locales).items():
            self._numbers[locale] = len(self.messages)
            self.messages.append(self._counted(message))
            self.locales.append(locale)
        self.needs = needs(self.messages) if send.liquid else Needs()
        self.is_general = send.liquid and any(parse(text).parts is None for _, text in texts(self.messages))
        """Whether some text does more than put values in."""
        self.badge: tuple[str, ...] | None = None if send.badge_from is None else tuple(send.badge_from.split("."))
        """Where each device's own badge is read."""

    def _counted(self, message: Message) -> Message:
        """The message where pushd counts: a count has been increased when it is read."""
        return msgspec.structs.replace(message, badge_increment=None) if self.is_counted else message

    def variant(self, locale: str) -> int:
        """The number of the variant for a device with this folded locale; 0: the message itself."""
        return next((self._numbers[each] for each in fallbacks(locale) if each in self._numbers), 0)

    def values(self, user: Mapping[str, Any], device: Mapping[str, Any], external_id: str | None) -> dict[str, Any]:
        """What the texts read for one device: its user's own data stand before the tags of all."""
        own = self.send.user_data.get(external_id, {}) if external_id is not None else {}
        return {**self.send.content_tags, **own, USER: user, DEVICE: device, USER_DATA: own}

    def message(self, variant: int, values: Mapping[str, Any], now: float) -> Message:
        """The message for one device; TemplateError where a text fails."""
        message: Message = self.messages[variant]
        if self.send.liquid:
            message = rendered(message, values, now)
        return message if self.badge is None else with_badge(message, within(values, self.badge))


def badge_of(message: Message, value: Any) -> int | None:
    """The badge that a device's own value makes of a message; None where it is no whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return min(max(int(value) + (message.badge_increment or 0), 0), BADGE_MAX)


def with_badge(message: Message, value: Any) -> Message:
    """The message with the badge that a device's own value makes."""
    badge = badge_of(message, value)
    return message if badge is None else msgspec.structs.replace(message, badge=badge, badge_increment=None)


def rendered(value: Any, values: Mapping[str, Any], now: float) -> Any:
    """A message, or any JSON, with its texts rendered; TemplateError where one fails, and says which."""
    budget = Budget()

    def change(place: Place, text: str) -> str:
        try:
            return parse(text).render(values, now, budget)
        except TemplateError as error:
            raise TemplateError(f"{place.pointer or '/'}: {error}") from None

    return replaced(value, change)
