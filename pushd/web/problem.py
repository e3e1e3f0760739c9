"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pushd.errors import PushdError
from pushd.web.answer import Answer

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "/pushd/v1/docs#problem-"
"""A problem's `type` is a reference to its line in the offline reference; it never changes."""

_CLOSING = frozenset({408, 413, 431})
"""After these the rest of the request is not worth reading."""
_to_json = msgspec.json.Encoder().encode


class ProblemFault(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong: `pointer` (RFC 6901) into the body, or the `parameter` or header of that name."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs: the `type` without its base."""
    detail: str
    errors: list[ProblemFault] | msgspec.UnsetType = msgspec.UNSET
    reference: str | msgspec.UnsetType = msgspec.UNSET
    """Of an internal error: what the operator finds in the log."""


def describe(error: PushdError, reference: str) -> dict[str, Any]:
    """The problem as plain JSON; an internal error tells nothing but its reference."""
    internal = error.status == 500
    problem: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": "The operator finds what went wrong by the reference" if internal else error.detail,
    }
    if internal:
        return problem | {"reference": reference}
    if error.faults:
        problem["errors"] = [
            {"pointer" if fault.pointer.startswith("/") or not fault.pointer else "parameter": fault.pointer}
            | {"detail": fault.detail}
            for fault in error.faults
        ]
    return problem | {key: value for key, value in error.extra.items() if key not in problem or key == "errors"}


def encode(error: PushdError, reference: str) -> bytes:
    """The problem as JSON."""
    return _to_json(describe(error, reference))


def headers(error: PushdError) -> dict[str, str]:
    """The headers that go with an error: Retry-After, WWW-Authenticate, Allow."""
    made: dict[str, str] = {}
    if error.retry_after_s is not None or error.retryable:
        made["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if error.status == 401:
        made["WWW-Authenticate"] = 'Bearer realm="pushd"'  # a Basic challenge would open a browser's own prompt
    if error.status == 405 and "allow" in error.extra:
        made["Allow"] = str(error.extra["allow"])
    return made


def render(error: PushdError, reference: str, more: Mapping[str, str] | None = None) -> Answer:
    """The answer that tells a caller of an error."""
    answer = Answer(
        encode(error, reference),
        status=error.status,
        headers={**headers(error), **(more or {})},
        content_type=CONTENT_TYPE,
    )
    if error.status in _CLOSING:
        answer.force_close()
    return answer
