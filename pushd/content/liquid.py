"""Liquid, as tenants may write it: parsed and rendered under limits on size, nesting, loops, steps, memory and output.

Time is counted in steps and not by a clock: a template that renders once renders always, however busy the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from liquid import Environment, RenderContext
from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import BooleanExpression, FilteredExpression, Path, StringLiteral
from liquid.builtin.expressions.logical import ContainsExpression
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.exceptions import LiquidError
from liquid.expression import Expression
from liquid.output import LimitedStringIO
from liquid.static_analysis import Variable
from liquid.stringify import to_liquid_string
from liquid.template import BoundTemplate
from liquid.utils import ReadOnlyChainMap

from pushd.content import liquid_filters
from pushd.content.liquid_filters import ITEMS_MAX, LimitError, checked

SOURCE_MAX = 65_536
"""Characters of one text."""
MARKS_MAX = 200
"""Pieces of Liquid in one text."""
MARK_MAX = 2_000
"""Characters of one piece."""
BLANKS_MAX = 32
"""Blanks in a row within a piece: the library's patterns take quadratic time over them."""
DEPTH_MAX = 10
"""Blocks within blocks."""
WORDS_MAX = 50
"""Of `and`, `or`, `[` in one piece: each nests."""
STEPS_MAX = 10_000
"""Nodes rendered, and what filters go through: some 10 ms of the slowest steps that there are."""
SEARCH_STEPS = 50
"""Of `contains`, which may go through a long text."""
SHORT_MAX = 1_000
"""Characters of a text that is remembered among many when it is parsed; what is parsed takes up to 60 times as much."""
LOCALS_MAX = 50
"""Names assigned."""
OUTPUT_MAX = 65_536
"""Bytes that come out of one text."""

TAGS = frozenset({"assign", "break", "capture", "case", "comment", "continue", "echo", "for", "if", "unless", "#"})
"""That templates may use, and `raw`. None of them reads another template, and none writes markup of its own."""
MARKS = ("{{", "{%")
_OF_LISTS = frozenset({"size", "first", "last"})
"""Names that stand for something of a list or a text."""
_BLANKS = re.compile(rf"\s{{{BLANKS_MAX + 1}}}|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NESTING = re.compile(r"\band\b|\bor\b|\[")


FAILURES = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
"""What values can make of code that writes them: numbers of thousands of digits, lists within lists without end."""


class TemplateError(ValueError):
    """A template that cannot be, or that went past a limit."""


class Lookup(NamedTuple):
    """A place in a text where one value is put as it is: its path, and what stands there where there is none."""

    path: tuple[str, ...]
    default: str | None = None


class Budget:
    """What the texts of one message may take together."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def charge(self, steps: int) -> None:
        """Counts steps; LimitError past the limit."""
        self.left -= steps
        if self.left < 0:
            raise LimitError(f"takes more than {STEPS_MAX} steps")


class _Context(RenderContext):
    """A render context that counts steps, and has a time of its own."""

    __slots__ = ("charge", "now", "weight")

    def __init__(self, template: BoundTemplate, values: Mapping[str, object], now: float, budget: Budget) -> None:
        super().__init__(template, globals=values)
        # Without the library's `now` and `today`, which are not the moment of release.
        self.scope = ReadOnlyChainMap(self.locals, self.globals)
        self.weight = 1
        self.now = now
        self.charge = budget.charge

    def assign(self, key: str, val: Any) -> None:
        """Gives a name a value."""
        if isinstance(val, range) and len(val) > ITEMS_MAX:
            raise LimitError(f"a range has at most {ITEMS_MAX} items")
        self.locals[key] = checked(val)
        if len(self.locals) > LOCALS_MAX:
            raise LimitError(f"assigns more than {LOCALS_MAX} names")

    def raise_for_loop_limit(self, length: int = 1) -> None:
        """Counts all rounds of a loop before its first."""
        self.charge(length * self.weight)


class _ForNode(ForNode):
    """A loop that says how much is in it."""

    __slots__ = ()

    def render_to_output(self, context: Any, buffer: Any) -> int:
        """Renders the loop, as the library does."""
        context.charge(1)
        context.weight = 2 + _size(self.block)
        return super().render_to_output(context, buffer)


class _ForTag(ForTag):
    node_class = _ForNode


class _Environment(Environment):
    block_nesting_limit = DEPTH_MAX
    context_depth_limit = DEPTH_MAX + 5
    output_stream_limit = OUTPUT_MAX  # of what is captured

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Leaves only the tags and filters that templates may use."""
        super().setup_tags_and_filters(extra=extra)
        self.add_tag(_ForTag)
        for name in [name for name in self.tags if name.isidentifier() and name not in TAGS and name not in _PSEUDO]:
            del self.tags[name]
        liquid_filters.install(self)


_PSEUDO = frozenset({"content", "output", "illegal"})
"""Names under which the library keeps what is no tag."""


class Liquid:
    """A parsed text."""

    __slots__ = ("_size", "_template", "optional", "parts", "paths", "source")

    def __init__(self, template: BoundTemplate, source: str) -> None:
        self._template = template
        self._size = sum(map(_size, template.nodes))
        self.source = source
        found = template.analyze(include_partials=False)
        if unknown := sorted(found.filters.keys() - _ENVIRONMENT.filters.keys()):
            raise TemplateError(f"there is no filter {unknown[0]}")
        self.paths: frozenset[tuple[str, ...]] = frozenset(
            _path(each) for name in found.globals.values() for each in name
        )
        """What is read from outside: names and names within them; one that is worked out ends a path with "*"."""
        self.optional: frozenset[str] = frozenset(_optional(template, found.globals))
        """Names that may be absent: each place where they are used has a default, or asks first whether they are."""
        self.parts: tuple[str | Lookup, ...] | None = _parts(template)
        """Texts and look-ups one after another, where that is all there is."""

    def render(self, values: Mapping[str, Any], now: float, budget: Budget | None = None) -> str:
        """The text that comes out; TemplateError where it fails. `now` is what the template takes for now."""
        budget = budget or Budget()
        try:
            budget.charge(self._size)
            if self.parts is not None:  # the same, at a tenth of the time
                return _checked("".join([_part_of(part, values) for part in self.parts]))
            context = _Context(self._template, values, now, budget)
            buffer = LimitedStringIO(limit=OUTPUT_MAX, newline="")
            self._template.render_with_context(context, buffer)
        except (LiquidError, *FAILURES) as error:
            raise TemplateError(_said(error)) from None
        return buffer.getvalue()


def parse(source: str) -> Liquid:
    """The parsed text; TemplateError says what is wrong with it. Texts that were parsed of late are remembered."""
    return _short(source) if len(source) <= SHORT_MAX else _long(source)


def forget() -> None:
    """Forgets what was parsed."""
    _short.cache_clear()
    _long.cache_clear()


@lru_cache(maxsize=1_024)
def _short(source: str) -> Liquid:
    return _parse(source)


@lru_cache(maxsize=32)
def _long(source: str) -> Liquid:
    return _parse(source)


def _parse(source: str) -> Liquid:
    _foresee(source)
    try:
        return Liquid(_ENVIRONMENT.from_string(source), source)
    except (LiquidError, RecursionError) as error:
        raise TemplateError(_said(error)) from None


def within(value: Any, names: Sequence[str]) -> Any:
    """What stands under names within names; None where there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def text_of(lookup: Lookup, value: Any) -> str:
    """What a look-up that found this value writes; its default where that is nothing (as the filter of that name)."""
    if lookup.default is not None and (value is None or value is False or value in ("", [], {})):
        return lookup.default
    return shown(value)


def _part_of(part: str | Lookup, values: Mapping[str, Any]) -> str:
    return part if isinstance(part, str) else text_of(part, within(values, part.path))


def _checked(text: str) -> str:
    """The text, where it is not too long; LimitError."""
    if len(text) > OUTPUT_MAX or (len(text) * 4 > OUTPUT_MAX and len(text.encode()) > OUTPUT_MAX):
        raise LimitError("output stream limit reached")
    return text


def has_marks(text: str) -> bool:
    """Whether there is anything of Liquid in a text."""
    return "{{" in text or "{%" in text


def shown(value: Any) -> str:
    """A value as Liquid writes it."""
    return "" if value is None else to_liquid_string(value, autoescape=False)


def _said(error: Exception) -> str:
    """What an error says, without the piece of the template that the library shows below it."""
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _foresee(source: str) -> None:
    """TemplateError for what would take long to parse."""
    if len(source) > SOURCE_MAX:
        raise TemplateError(f"a text has at most {SOURCE_MAX} characters")
    at = marks = 0
    while (begin := _next_mark(source, at)) >= 0:
        marks += 1
        if marks > MARKS_MAX:
            raise TemplateError(f"a text has at most {MARKS_MAX} pieces of Liquid")
        end = source.find("}}" if source[begin + 1] == "{" else "%}", begin + 2)
        if end < 0:
            raise TemplateError(f"a piece of Liquid is not closed: {source[begin : begin + 20]!r}")
        _foresee_piece(source[begin + 2 : end])
        at = end + 2


def _foresee_piece(piece: str) -> None:
    if len(piece) > MARK_MAX:
        raise TemplateError(f"a piece of Liquid has at most {MARK_MAX} characters")
    if _BLANKS.search(piece):
        raise TemplateError(f"a piece of Liquid has at most {BLANKS_MAX} blanks in a row, and no control characters")
    if len(_NESTING.findall(piece)) > WORDS_MAX:
        raise TemplateError(f"a piece of Liquid has at most {WORDS_MAX} of and, or, [")


def _next_mark(source: str, at: int) -> int:
    """Where the next piece of Liquid begins; -1: there is none."""
    found = [place for place in (source.find(mark, at) for mark in MARKS) if place >= 0]
    return min(found, default=-1)


def _size(node: Node) -> int:
    """How many nodes and expressions there are in one, each once."""
    return 1 + sum(map(_terms, node.expressions())) + sum(map(_size, node.children(_STATIC)))


def _terms(expression: Expression) -> int:
    """How many expressions there are in one; a search in a text counts as many."""
    own = SEARCH_STEPS if isinstance(expression, ContainsExpression) else 1
    return own + sum(map(_terms, expression.children()))


def _walk(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _walk(list(node.children(_STATIC)))


def _path(variable: Variable) -> tuple[str, ...]:
    """The names of a variable, up to the first that is none."""
    names: list[str] = []
    for segment in variable.segments:
        if not isinstance(segment, str):
            names.append("*")
            break
        names.append(segment)
    return tuple(names)


def _optional(template: BoundTemplate, uses: Mapping[str, Sequence[Variable]]) -> Iterator[str]:
    """Names of which the template says what is to be done without them."""
    tested: set[str] = set()
    guarded: dict[str, int] = {}
    for node in _walk(template.nodes):
        for expression in node.expressions():
            if isinstance(expression, BooleanExpression) and isinstance(expression.expression, Path):
                tested.add(str(expression.expression.path[0]))
            if isinstance(expression, FilteredExpression) and isinstance(expression.left, Path) and expression.filters:
                name = str(expression.left.path[0])
                guarded[name] = guarded.get(name, 0) + (expression.filters[0].name == "default")
    for name, places in uses.items():
        if name in tested or guarded.get(name, 0) >= len(places):
            yield name


def _parts(template: BoundTemplate) -> tuple[str | Lookup, ...] | None:
    parts: list[str | Lookup] = []
    for node in template.nodes:
        if isinstance(node, ContentNode):
            parts.append(node.text)
            continue
        lookup = _lookup(node.expression) if isinstance(node, OutputNode) else None
        if lookup is None:
            return None
        parts.append(lookup)
    return tuple(parts)


def _lookup(expression: Any) -> Lookup | None:
    """The look-up that an output is; None where it is more than one."""
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None
    path = expression.left.path
    if not all(isinstance(segment, str) for segment in path):
        return None
    names = tuple(map(str, path))
    if _OF_LISTS & {*names[1:]}:
        return None
    if not expression.filters:
        return Lookup(names)
    only = expression.filters[0]
    if len(expression.filters) > 1 or only.name != "default" or len(only.args) != 1:
        return None
    value = only.args[0]
    literal = value.value if hasattr(value, "value") and not hasattr(value, "name") else None
    return Lookup(names, literal.value) if isinstance(literal, StringLiteral) else None


_ENVIRONMENT = _Environment()
_STATIC = RenderContext(_ENVIRONMENT.from_string(""))
