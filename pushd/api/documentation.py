"""What the types' own source says of their fields, for readers of the API: docstrings under fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as kinds


def describe_fields(types: Iterable[Any], components: dict[str, Any]) -> None:
    """Adds to component schemas, in place, the docstring that stands under each field of their structs."""
    for struct in structs(types):
        schema = components.get(struct.__name__)
        if schema is None or "properties" not in schema:
            continue
        schema["description"] = inspect.cleandoc(struct.__doc__ or "")
        for name, text in field_docstrings(struct).items():
            if name in schema["properties"]:
                schema["properties"][name].setdefault("description", text)


def field_docstrings(struct: type) -> dict[str, str]:
    """The docstring under each field of a class, by field name, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__[:-1]):
        if base is msgspec.Struct or not base.__module__.startswith("pushd."):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = inspect.cleandoc(text.value.value)
    return found


def structs(types: Iterable[Any]) -> list[type]:
    """Every struct that the types are made of, once each."""
    found: dict[type, None] = {}
    waiting: list[Any] = list(kinds.multi_type_info(list(types)))
    seen: set[int] = set()
    while waiting:
        kind = waiting.pop()
        if id(kind) in seen:
            continue
        seen.add(id(kind))
        if isinstance(kind, kinds.StructType):
            if kind.cls in found:
                continue
            found[kind.cls] = None
        waiting += _parts(kind)
    return list(found)


def _parts(kind: Any) -> Iterator[Any]:
    if isinstance(kind, kinds.StructType):
        yield from (field.type for field in kind.fields)
    elif isinstance(kind, kinds.UnionType):
        yield from kind.types
    elif isinstance(kind, kinds.ListType | kinds.SetType | kinds.VarTupleType | kinds.FrozenSetType):
        yield kind.item_type
    elif isinstance(kind, kinds.DictType):
        yield from (kind.key_type, kind.value_type)
    elif isinstance(kind, kinds.Metadata):
        yield kind.type
