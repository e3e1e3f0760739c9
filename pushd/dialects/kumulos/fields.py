"""Fields of a body read one by one: what is wrong with one is noted under its name, and all of it is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pushd.errors import Fault, InvalidRequestError

T = TypeVar("T")
TEXT_CHARS_MAX = 255
URL_CHARS_MAX = 2_048
URL_CHARS_MIN = 8
"""The notification extension of iOS takes a shorter one's first eight characters."""
NUMBER_DIGITS_MAX = 15
_TRUE, _FALSE = (True, 1, "true", "1"), (False, 0, "false", "0")


def wrong(field: str, detail: str) -> InvalidRequestError:
    """A field that is not as it should be; `content.title` is within `content`."""
    return InvalidRequestError(f"{field} {detail}", faults=[_fault(field, detail)])


def _fault(field: str, detail: str) -> Fault:
    return Fault(f"/{field.replace('.', '/')}", detail)


class Fields:
    """An object of a body, and the faults of the whole body. Nulls are absent; what is wrong reads as absent."""

    __slots__ = ("_path", "faults", "given")

    def __init__(self, given: Mapping[str, Any], path: str = "", faults: list[Fault] | None = None) -> None:
        self.given = given
        self._path = path
        self.faults: list[Fault] = [] if faults is None else faults

    def __contains__(self, name: str) -> bool:
        return self.given.get(name) is not None

    def get(self, name: str) -> Any:
        """The value as it was given; None: none."""
        return self.given.get(name)

    def bad(self, name: str, detail: str) -> None:
        """Notes a fault of a field."""
        self.faults.append(_fault(f"{self._path}{name}", detail))

    def check(self) -> None:
        """Returns where nothing was wrong so far; InvalidRequestError with every fault."""
        if self.faults:
            raise InvalidRequestError("The body is not valid", faults=self.faults)

    def within(self, name: str, *, required: bool = False) -> Fields | None:
        """The fields of an object within; None where there is none."""
        value = self._value(name, required)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.bad(name, "is not an object")
            return None
        return Fields(value, f"{self._path}{name}.", self.faults)

    def text(self, name: str, most: int = TEXT_CHARS_MAX, *, required: bool = False, empty: bool = False) -> str | None:
        """A text, of at least one character unless it may be empty."""
        value = self._value(name, required)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > most or not (value or empty):
            self.bad(name, f"is not a text of {0 if empty else 1} to {most} characters")
            return None
        return value

    def choice(self, name: str, options: Mapping[str, T], *, required: bool = False) -> T | None:
        """What one of some words stands for."""
        value = self._value(name, required)
        if value is None:
            return None
        if not isinstance(value, str) or value not in options:
            self.bad(name, f"is none of {', '.join(options)}")
            return None
        return options[value]

    def number(self, name: str, least: int, most: int, *, required: bool = False) -> int | None:
        """A whole number, also as a text of digits."""
        value = self._value(name, required)
        if value is None:
            return None
        whole = as_number(value)
        if whole is None or not least <= whole <= most:
            self.bad(name, f"is not a whole number from {least} to {most}")
            return None
        return whole

    def real(self, name: str, least: float, most: float) -> float | None:
        """A number."""
        value = self._value(name, required=False)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.bad(name, f"is not a number from {least:g} to {most:g}")
            return None
        return float(value)

    def truth(self, name: str) -> bool | None:
        """A boolean, also as 1, 0, or a text that says it."""
        value = self._value(name, required=False)
        if value is None or isinstance(value, bool):
            return value
        if not isinstance(value, list | dict) and value in _TRUE + _FALSE:
            return value in _TRUE
        self.bad(name, "is neither true nor false")
        return None

    def url(self, name: str) -> str | None:
        """An absolute URL."""
        value = self.text(name, URL_CHARS_MAX)
        if value is not None and not is_url(value):
            self.bad(name, "is not an http or https URL")
            return None
        return value

    def link(self, name: str) -> str | None:
        """A URL of any scheme: links into apps have schemes of their own."""
        value = self.text(name, URL_CHARS_MAX)
        if value is not None and not (value.isprintable() and " " not in value):
            self.bad(name, "is not a URL")
            return None
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        """An object, as it is."""
        value = self.given.get(name)
        if value is None or isinstance(value, dict):
            return value
        self.bad(name, "is not an object")
        return None

    def members(self, name: str, most: int, read: Callable[[Any], T | None], what: str) -> list[T]:
        """A list, each member as it was read; empty where there is none."""
        value = self.given.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not 0 < len(value) <= most:
            self.bad(name, f"is not a list of 1 to {most} {what}")
            return []
        found = [read(each) for each in value]
        if None in found:
            self.bad(name, f"has something beside {what}")
            return []
        return [each for each in found if each is not None]

    def names(self, name: str, most: int) -> list[str]:
        """A list of names: texts, or numbers in their place."""
        value = self.given.get(name)
        if value is None:
            return []
        if isinstance(value, list) and 0 < len(value) <= most and _are_names(value):
            return value
        return self.members(name, most, as_name, f"texts of 1 to {TEXT_CHARS_MAX} characters")

    def _value(self, name: str, required: bool) -> Any:
        value = self.given.get(name)
        if value is None and required:
            self.bad(name, "is required")
        return value


def as_number(value: Any) -> int | None:
    """The whole number that a value is or spells; None: none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if isfinite(value) and value.is_integer() and abs(value) < 10**NUMBER_DIGITS_MAX else None
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-") if isinstance(value, str) else ""
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) <= NUMBER_DIGITS_MAX else None


def as_name(value: Any) -> str | None:
    """The name that a value is, numbers spelt out; None where it cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    fine = isinstance(value, str) and 0 < len(value) <= TEXT_CHARS_MAX and "\0" not in value
    return value if fine else None


def _are_names(value: list[Any]) -> bool:
    """Whether all are texts that can be names; a hundred thousand in some milliseconds."""
    if len(value) == 1:
        return type(value[0]) is str and as_name(value[0]) is not None
    if set(map(type, value)) != {str}:
        return False
    lengths = set(map(len, value))
    return min(lengths) > 0 and max(lengths) <= TEXT_CHARS_MAX and "\0" not in "".join(value)


def is_url(value: str) -> bool:
    """Whether a text is an http or https URL that devices can make something of."""
    try:
        parts = urlsplit(value)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
    return fine and len(value) >= URL_CHARS_MIN and value.isprintable() and " " not in value
