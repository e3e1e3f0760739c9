"""The filters that templates may use, each counted, and none of whose results grows past the limits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from liquid import Environment
from liquid.exceptions import LiquidError
from liquid.filter import with_context
from liquid.undefined import is_undefined

TEXT_MAX = 16_384
"""Characters of any text on its way, and of all texts of a list together."""
ITEMS_MAX = 500
"""Of a list on its way."""
INTEGER_MAX = 2**63
CHARS_A_STEP = 64
"""Characters that a filter goes through count as one step."""
SECONDS_DIGITS = 11
"""Up to so many digits are a time in UNIX seconds."""
FORM_MAX = 256
"""Characters of a form of dates."""
PAIRS_A_STEP = 50
"""Pairs of items that are compared with each other count as one step."""

STRINGS = frozenset(
    {"append", "base64_decode", "base64_encode", "capitalize", "downcase", "escape", "escape_once", "lstrip"}
    | {"newline_to_br", "prepend", "remove", "remove_first", "remove_last", "replace", "replace_first", "replace_last"}
    | {"rstrip", "slice", "split", "squish", "strip", "strip_newlines", "truncate", "truncatewords", "upcase"}
    | {"url_decode", "url_encode"}
)
LISTS = frozenset(
    {"compact", "concat", "first", "join", "last", "map", "reverse", "size", "sort", "sort_natural", "sum", "uniq"}
    | {"where"}
)
NUMBERS = frozenset(
    {"abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times"}
)
KEPT = STRINGS | LISTS | NUMBERS | {"default"}
"""Of the library's; `date` and `strip_html` are our own."""

_TAG = re.compile(r"<[^<>]*>")
_DIRECTIVE = re.compile(r"%(-?[aAbBcdDeFhHIjklmMnpPrRsStTuUwWyYzZ%]|.|$)", re.DOTALL)
_MINE: Mapping[str, str] = {"e": "%d", "k": "%H", "l": "%I", "P": "%p", "n": "\n", "t": "\t", "h": "%b"}
_SPACED = frozenset("ekl")
_FAILURES = (LiquidError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError)


class LimitError(LiquidError):
    """A template goes past a limit."""

    def __init__(self, what: str) -> None:
        super().__init__(what, token=None)


class Counting(Protocol):
    """What a context does for filters; `liquid.Context` is the implementation."""

    env: Environment
    now: float
    """UNIX seconds that stand for now."""

    def charge(self, steps: int) -> None:
        """Counts steps; LimitError past the limit."""


def install(environment: Environment) -> None:
    """Leaves an environment the filters that templates may use, each counted."""
    library = dict(environment.filters)
    environment.filters.clear()
    for name in sorted(KEPT):
        environment.filters[name] = _guarded(name, library[name])
    environment.filters["date"] = _date
    environment.filters["strip_html"] = _strip_html


def _guarded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    extra = getattr(filter_, "with_environment", False)

    @with_context
    def run(left: Any, *args: Any, context: Counting, **kwargs: Any) -> Any:
        values = (left, *args)
        context.charge(1 + sum(map(_weight, values)) + (_pairs(left) if name == "uniq" else 0))
        if name in NUMBERS and any(isinstance(each, str) and len(each) > 64 for each in values):
            raise LimitError("a number has at most 64 digits")
        _foresee(name, values)
        if extra:
            kwargs["environment"] = context.env
        try:
            made = filter_(left, *args, **kwargs)
            return made if name == "default" else checked(made)  # which makes nothing
        except LiquidError:
            raise
        except _FAILURES as error:
            raise LiquidError(f"{name}: {error}", token=None) from error

    return run


@with_context
def _date(left: Any, form: Any = None, *, context: Counting) -> Any:
    """A time as a text by the directives of strftime(3); `now` and `today` are the moment of release."""
    context.charge(2)
    moment = _moment(left, context.now)
    if moment is None or is_undefined(form) or form is None:
        return "" if is_undefined(left) or left is None else left
    text = str(form)
    if len(text) > FORM_MAX:
        raise LimitError(f"a form of dates has at most {FORM_MAX} characters")
    try:
        return _DIRECTIVE.sub(lambda found: _directive(moment, found[1]), text)
    except ValueError as error:
        raise LiquidError(f"date: {error}", token=None) from error


@with_context
def _strip_html(left: Any, *, context: Counting) -> str:
    text = "" if left is None or is_undefined(left) else str(left)
    context.charge(1 + _weight(text))
    return _TAG.sub("", text)


def _directive(moment: datetime, directive: str) -> str:
    if directive == "%":
        return "%"
    bare = directive.lstrip("-")
    if bare == "s":
        return str(int(moment.timestamp()))
    if not bare.isalpha() or not bare.isascii():
        return f"%{directive}"
    text = moment.strftime(_MINE.get(bare, f"%{bare}"))
    if bare == "P":
        text = text.lower()
    if directive != bare or bare in _SPACED:
        short = text.lstrip("0") or "0"
        return short if directive != bare else short.rjust(len(text))
    return text


def _moment(value: Any, now: float) -> datetime | None:
    """What time a value says; None where it says none."""
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            if value in ("now", "today"):
                return datetime.fromtimestamp(now, UTC)
            seconds = value.isdecimal() and value.isascii() and len(value) <= SECONDS_DIGITS
            return datetime.fromtimestamp(int(value), UTC) if seconds else datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def checked(value: Any) -> Any:
    """The value, within the limits; LimitError else."""
    if isinstance(value, str):
        if len(value) > TEXT_MAX:
            raise LimitError(f"a text has at most {TEXT_MAX} characters")
    elif isinstance(value, bool) or value is None:
        return value
    elif isinstance(value, int):
        if not -INTEGER_MAX < value < INTEGER_MAX:
            raise LimitError("a number fits 64 bits")
    elif isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise LimitError("a number is finite")
    elif isinstance(value, list | tuple):
        if len(value) > ITEMS_MAX:
            raise LimitError(f"a list has at most {ITEMS_MAX} items")
        if sum(len(each) for each in value if isinstance(each, str)) > TEXT_MAX:
            raise LimitError(f"the texts of a list have at most {TEXT_MAX} characters together")
    return value


def _foresee(name: str, values: tuple[Any, ...]) -> None:
    """LimitError where the result would be far larger than what is there."""
    if any(isinstance(each, range) and len(each) > ITEMS_MAX for each in values):
        raise LimitError(f"a range has at most {ITEMS_MAX} items")
    if name == "replace" and len(values) > 1:
        text, old = str(values[0]), str(values[1])
        new = str(values[2]) if len(values) > 2 else ""
        times = text.count(old) if old else len(text) + 1
        if len(text) + times * len(new) > TEXT_MAX + len(old) * times:
            raise LimitError(f"a text has at most {TEXT_MAX} characters")
    elif name == "join" and isinstance(values[0], list | tuple):
        between = len(str(values[1])) if len(values) > 1 else 1
        if len(values[0]) * between + sum(len(each) for each in values[0] if isinstance(each, str)) > 2 * TEXT_MAX:
            raise LimitError(f"a text has at most {TEXT_MAX} characters")


def _weight(value: Any) -> int:
    """Steps that going through a value takes."""
    if isinstance(value, str):
        return len(value) // CHARS_A_STEP
    return len(value) if isinstance(value, list | tuple | dict) else 0


def _pairs(value: Any) -> int:
    return len(value) ** 2 // PAIRS_A_STEP if isinstance(value, list | tuple) else 0
