"""The closed set of errors that pushd answers with: code, HTTP status and whether to try again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (an RFC 6901 JSON pointer into the body, or a parameter) and what."""

    pointer: str
    detail: str


class PushdError(Exception):
    """What the control plane raises; HTTP surfaces and the command line only render it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        faults: Sequence[Fault] = (),
        retry_after_s: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.faults = tuple(faults)
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


class InvalidRequestError(PushdError):
    """The request is not understood, or names something that cannot be: each fault points at its field."""

    code, status, title = "invalid_request", 400, "The request is not valid"


class UnknownTargetsError(PushdError):
    """Every target that the send names is unknown or unsubscribed."""

    code, status, title = "unknown_targets", 400, "None of the targets exists"


class UnauthorizedError(PushdError):
    """No key, or one that is not known."""

    code, status, title = "unauthorized", 401, "A valid API key is needed"


class ForbiddenError(PushdError):
    """The key is known, but its role does not go that far."""

    code, status, title = "forbidden", 403, "This key may not do that"


class NotFoundError(PushdError):
    """No such thing for this key; another tenant's things are as absent as those that never were."""

    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowedError(PushdError):
    """The path exists, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class ConflictError(PushdError):
    """The state of the thing does not allow it: already there, already sent, or in use."""

    code, status, title = "conflict", 409, "The state of the resource does not allow this"


class PayloadTooLargeError(PushdError):
    """The body is larger than the limit."""

    code, status, title = "payload_too_large", 413, "The body is too large"


class HeadersTooLargeError(PushdError):
    """The headers are larger than the limit."""

    code, status, title = "headers_too_large", 431, "The headers are too large"


class UnsupportedMediaTypeError(PushdError):
    """The body is not of a kind that this path takes."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class IdempotencyMismatchError(PushdError):
    """The Idempotency-Key was used before with another body."""

    code, status, title = "idempotency_mismatch", 422, "This Idempotency-Key belongs to another request"


class TooManyRequestsError(PushdError):
    """A limit of this caller is reached; Retry-After says when to come back."""

    code, status, title, retryable = "too_many_requests", 429, "Too many requests", True


class InternalError(PushdError):
    """A bug of pushd: logged with a reference, never explained to the caller."""


class UnavailableError(PushdError):
    """The daemon cannot take it now (PostgreSQL is away, it is full, it is stopping); Retry-After says when."""

    code, status, title, retryable = "unavailable", 503, "Temporarily unavailable", True


class RequestTimeoutError(PushdError):
    """The body did not arrive in time."""

    code, status, title, retryable = "request_timeout", 408, "The request took too long to arrive", True


class ConfigError(PushdError):
    """The configuration is wrong; the detail names file, key and the nearest known name."""

    code, status, title = "invalid_configuration", 500, "The configuration is not valid"
