"""A surface: one of the APIs behind the port, with its routes, and its way to tell of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pushd.errors import PushdError
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming
from pushd.web.router import Router


class Surface(Protocol):
    """What the server asks of an API."""

    router: Router

    def owns(self, host: str, path: str) -> bool:
        """Whether a request to this host (lower case, no port) and raw path is the surface's, known to it or not."""

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """The answer that tells a caller of an error, in the surface's own shape; also for 404, 405, 413 and 500."""


class Native:
    """The native API: what nobody else owns."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def owns(self, host: str, path: str) -> bool:  # noqa: ARG002  # the contract's
        """Always."""
        return True

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """RFC 9457."""
        return problem.render(error, incoming.id)


class Surfaces:
    """Every surface of a server, asked in order; the last one takes what is left."""

    __slots__ = ("_native", "_others")

    def __init__(self, native: Native, others: Sequence[Surface] = ()) -> None:
        self._native = native
        self._others = tuple(others)

    def find(self, incoming: Incoming) -> Surface:
        """Whose a request is."""
        path = incoming.raw_path
        if not self._others or path.startswith(NATIVE):
            return self._native
        host = incoming.headers.get("Host", "").partition(":")[0].lower()
        for surface in self._others:
            if surface.owns(host, path):
                return surface
        return self._native

    def is_brief(self, method: str, path: str) -> bool:
        """Whether a raw path leads to an endpoint that is brief, and is one of few, whoever's it is."""
        return self._native.router.is_brief(method, path) or (
            not path.startswith(NATIVE) and any(surface.router.is_brief(method, path) for surface in self._others)
        )


NATIVE = "/pushd/"
"""Beginning of paths that no dialect can own."""
