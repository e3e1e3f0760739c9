"""Texts without one person: stored JSON in which his names are replaced wherever they stand."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

ERASED: Final = "erased"
"""What stands in the place of a name."""
TELLING_CHARS_MIN = 16
"""Names of so many characters, and e-mail addresses, are found inside of longer texts too; shorter ones stand in words
that mean somebody else."""
CONTENT: Final = frozenset({"content_tags", "user_data", "user_meta", "reporting_meta"})
"""What a send says of people beside its message."""

_encode = msgspec.json.Encoder().encode


class Redaction:
    """The names of one person, and how texts are rid of them."""

    __slots__ = ("_inside", "_names")

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._inside = [name for name in names if len(name) >= TELLING_CHARS_MIN or "@" in name[1:]]

    def patterns(self) -> list[str]:
        """LIKE patterns of texts that may hold a name, as text and as JSON writes it."""
        spelt = set(self._names) | {_encode(name).decode()[1:-1] for name in self._names}
        return [f"%{_escaped(each)}%" for each in sorted(spelt)]

    def text(self, text: str) -> str:
        """The text without the names."""
        if text in self._names:
            return ERASED
        for name in self._inside:
            text = text.replace(name, ERASED)
        return text

    def value(self, value: Any) -> Any:
        """A value of JSON without the names, in keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(each) for key, each in value.items()}
        return value

    def json(self, raw: str) -> str | None:
        """A JSON text without the names; None where it holds none."""
        before = msgspec.json.decode(raw)
        after = self.value(before)
        return None if after == before else _encode(after).decode()

    def send(self, raw: str, *, alone: bool) -> str | None:
        """The same of a send, which loses what it says where it went to this person `alone`; None: it stays."""
        before = msgspec.json.decode(raw)
        after = self.value(before)
        if alone or (_to_nobody(after.get("audience")) and after != before):
            after = {name: each for name, each in after.items() if name not in CONTENT} | {"message": {}}
        return None if after == before else _encode(after).decode()


def _to_nobody(audience: Any) -> bool:
    """Whether an audience named people and now names none."""
    if not isinstance(audience, dict):
        return False
    named = [each for each in audience.values() if isinstance(each, list)]
    return bool(named) and all(each and all(name == ERASED for name in each) for each in named)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
