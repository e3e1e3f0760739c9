"""Routes: which endpoint answers a method and a path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import web

from pushd.errors import MethodNotAllowedError, NotFoundError
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

Endpoint = Callable[[Incoming], Awaitable[Answer | web.StreamResponse]]

_PARAMETER = re.compile(r"\{\w+\}")


class Route(NamedTuple):
    """What a path leads to: the endpoint, the template, and what stood in the place of its parameters."""

    endpoint: Endpoint
    template: str
    values: tuple[str, ...]
    brief: bool = False
    """Whether it takes its body as a whole and answers in one piece."""


@dataclass(slots=True)
class _Node:
    """A place in the tree of paths, one level per segment; a written segment goes before a parameter."""

    written: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    methods: dict[str, tuple[Endpoint, str]] = field(default_factory=dict)


class Router:
    """A table of routes. Templates are like `/devices/{device_id}`; a parameter fills one whole segment."""

    __slots__ = ("_exact", "_recurring", "_root", "templates")

    def __init__(self) -> None:
        self._root = _Node()
        self._exact: dict[tuple[str, str], Route] = {}
        self._recurring: set[tuple[str, str]] = set()
        self.templates: list[tuple[str, str]] = []
        """(method, template) of every route, in the order of adding."""

    def add(self, method: str, template: str, endpoint: Endpoint, *, brief: bool = False, recurs: bool = False) -> None:
        """Routes a method and a template; each pair once. `brief`: whole bodies in, `Answer`s out.

        `recurs`: the same few paths come again and again, though it has parameters; all others are brief without any.
        """
        node = self._root
        for segment in template.split("/")[1:]:
            if _PARAMETER.fullmatch(segment):
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.written.setdefault(segment, _Node())
        assert method not in node.methods, f"{method} {template} is routed twice"
        node.methods[method] = (endpoint, template)
        self.templates.append((method, template))
        if brief and recurs:
            self._recurring.add((method, template))
        if "{" not in template:
            self._exact[method, template] = Route(endpoint, template, (), brief)

    def is_brief(self, method: str, path: str) -> bool:
        """Whether a raw path leads to an endpoint that is brief, and is one of few."""
        exact = self._exact.get((method, path))
        if exact is not None or not self._recurring:
            return exact is not None and exact.brief
        found = _walk(self._root, path.split("/")[1:], 0)
        taken = None if found is None else found[0].methods.get(method)
        return taken is not None and (method, taken[1]) in self._recurring

    def find(self, method: str, path: str) -> Route:
        """The route of a raw path; NotFoundError, or MethodNotAllowedError that lists what is allowed."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        found = _walk(self._root, path.split("/")[1:], 0)
        if found is None:
            raise NotFoundError("There is nothing at this path")
        node, values = found
        taken = node.methods.get(method) or (node.methods.get("GET") if method == "HEAD" else None)
        if taken is None:
            allowed = ", ".join(sorted({*node.methods, *(("HEAD",) if "GET" in node.methods else ())}))
            raise MethodNotAllowedError(f"This path takes {allowed}", extra={"allow": allowed})
        return Route(taken[0], taken[1], tuple(values))


def _walk(node: _Node, segments: list[str], at: int) -> tuple[_Node, list[str]] | None:
    if at == len(segments):
        return (node, []) if node.methods else None
    segment = segments[at]
    if (further := node.written.get(segment)) and (found := _walk(further, segments, at + 1)):
        return found
    if segment and node.parameter and (found := _walk(node.parameter, segments, at + 1)):
        return found[0], [segment, *found[1]]
    return None
