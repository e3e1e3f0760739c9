"""The OpenAPI 3.1 document, made from the table of operations and the types that decode and encode them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from pushd.api.documentation import describe_fields
from pushd.api.operation import EVERYONE, Operation, Scope
from pushd.api.serve import APP_HEADER, NDJSON, PREFIX
from pushd.errors import (
    ConfigError,
    ForbiddenError,
    HeadersTooLargeError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PushdError,
    RequestTimeoutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from pushd.web import problem
from pushd.web.answer import JSON
from pushd.web.sse import EVENT_STREAM
from pushd.web.table import CSV
from pushd.web.upload import FORM

VERSION = "1.0.0"
"""Of the API, which is in its path; the daemon's is its own."""

REF = "#/components/schemas/{name}"

TAGS = {
    "notifications": "Sends: what was asked, what became of it, and for whom.",
    "schedules": "Sends that wait for their time, once or again and again.",
    "templates": "Messages with gaps, kept in versions, previewed and sent.",
    "audience": "Who would be reached, without sending.",
    "receipts": "What devices report of the notifications that reached them.",
    "reports": "What came of what was sent.",
    "events": "What happens, told as it does: webhooks, and a stream that can be resumed.",
    "in-app messages": "Messages shown inside the app: sent, scheduled, withdrawn, and what recipients did with them.",
    "inbox": "In-app messages as an install or a user has them.",
    "devices": "Installs and their addresses.",
    "geofences": "Circles and areas, who is in them, and what is sent to who enters or leaves.",
    "live activities": "Broadcast channels, by which one push updates the Live Activities of all who subscribed.",
    "users": "The people behind installs.",
    "channels": "What installs and users subscribe to.",
    "imports": "Files of users and subscribers, carried out in the background.",
    "segments": "Audiences with a name, evaluated whenever they are used.",
    "credentials": "What gateways know an app by. Secrets are encrypted in the store and never come back.",
    "safari": "Websites whose visitors subscribe with Safari 15 and older.",
    "retirements": "Dead tokens that were retired, and their revival.",
    "apps": "Tenants: everything else belongs to exactly one.",
    "keys": "API keys and their roles.",
    "index": "What the daemon holds in memory.",
}

INTRODUCTION = f"""Push notifications in, pushes out.

**Keys.** Every request carries one: `Authorization: Bearer KEY`, or HTTP Basic with the key as user name or password.
A *server* key sends and administers its app; a *device* key registers and reports, and may ship inside a client; an
*admin* key acts on the whole installation, and names the app that it means with the header `{APP_HEADER}`.

**Errors** are problem details (RFC 9457): `code` and `type` are for programs and never change, `errors` point at what
is wrong by JSON pointer (RFC 6901). What is worth trying again carries `Retry-After`. Unknown fields are errors.

**Listings** come in pages: pass `next` as `cursor` until it is null.
"""


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document as plain JSON."""
    schemas = _Schemas(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    used = {operation.tag for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pushd",
            "version": VERSION,
            "summary": "A self-hosted push-notification fan-out daemon.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX}],
        "security": [{"bearer": []}, {"basic": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
                "basic": {"type": "http", "scheme": "basic", "description": "The API key as user name or password."},
            },
        },
        "x-problems": [_problem(error) for error in problems()],
    }


def problems() -> list[type[PushdError]]:
    """Every error that the API can answer with, by status."""
    return sorted(set(PushdError.__subclasses__()) - {ConfigError}, key=lambda error: (error.status, error.code))


def errors_of(operation: Operation) -> list[type[PushdError]]:
    """What an operation can answer besides success: by its shape, and its own."""
    found: set[type[PushdError]] = {
        InvalidRequestError,
        UnauthorizedError,
        TooManyRequestsError,
        HeadersTooLargeError,
        InternalError,
        UnavailableError,
        *operation.errors,
    }
    if operation.roles != EVERYONE:
        found.add(ForbiddenError)
    if operation.path_params or operation.scope is not Scope.INSTALLATION:
        found.add(NotFoundError)
    if operation.body is not None or operation.body_lines is not None or operation.media:
        found |= {RequestTimeoutError, PayloadTooLargeError, UnsupportedMediaTypeError}
    return sorted(found, key=lambda error: (error.status, error.code))


class _Schemas:
    """JSON Schemas of all types of a table: the types' own by `of`, the named ones in `components`."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        types: list[Any] = [problem.Problem]
        for operation in operations:
            types += [
                one
                for one in (
                    *(operation.body, operation.body_lines),
                    *(operation.answer, operation.answer_lines, operation.answer_events),
                )
                if one is not None
            ]
            if operation.params is not None:
                types += [one.type for one in msgspec.structs.fields(operation.params)]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=REF)
        self._by_type = {repr(one): schema for one, schema in zip(types, schemas, strict=True)}
        describe_fields(types, self.components)

    def of(self, type_: Any) -> dict[str, Any]:
        """The schema of a type: inline, or a reference."""
        return self._by_type[repr(type_)]


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": _description(operation),
    }
    if parameters := _parameters(operation, schemas):
        made["parameters"] = parameters
    if operation.body is not None or operation.body_lines is not None:
        made["requestBody"] = {"required": True, "content": _content(operation, schemas)}
    if operation.media:
        made["requestBody"] = {"required": True, "content": {kind: _file(kind) for kind in sorted(operation.media)}}
    made["responses"] = _answers(operation, schemas) | _errors(operation)
    return made


def _description(operation: Operation) -> str:
    roles = ", ".join(sorted(role.value for role in operation.roles))
    return f"{operation.description}\n\nKeys: {roles}.".strip()


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    fields = () if operation.params is None else msgspec.structs.fields(operation.params)
    for one in fields:
        schema = _without_null(schemas.of(one.type))
        if not one.required and one.default not in (msgspec.NODEFAULT, None, msgspec.UNSET):
            schema = schema | {"default": msgspec.to_builtins(one.default)}
        parameter = {
            "name": one.encode_name,
            "in": "path" if one.name in operation.path_params else "query",
            "required": one.required,
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        made.append(parameter | ({"description": schema["description"]} if "description" in schema else {}))
    if operation.scope is not Scope.INSTALLATION:
        text = "The app that an admin key acts on; other keys have their own."
        made.append(_header(APP_HEADER, text, {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}))
    if operation.idempotent:
        text = "The same key and body again within a day gets the first answer again, and is carried out once."
        made.append(_header("Idempotency-Key", text, {"type": "string", "minLength": 1, "maxLength": 255}))
    return made


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out, where msgspec says null."""
    kept: list[dict[str, Any]] = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kept) == 1:
        rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
        return {**rest, **kept[0]}
    return schema


def _content(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    lines = operation.body_lines is not None
    media: dict[str, Any] = {"schema": schemas.of(operation.body_lines if lines else operation.body)}
    if operation.example is not None:
        media["example"] = operation.example
    return {NDJSON if lines else JSON: media}


def _file(kind: str) -> dict[str, Any]:
    """A body of octets; in a form, the one file that it carries."""
    octets = {"type": "string", "contentMediaType": "application/octet-stream"}
    if kind != FORM:
        return {"schema": octets | {"contentMediaType": kind}}
    return {"schema": {"type": "object", "properties": {"file": octets}, "required": ["file"]}}


def _answers(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    media: dict[str, Any] = {}
    if operation.answer is not None:
        media = {"content": {JSON: {"schema": schemas.of(operation.answer)}}}
    if operation.answer_lines is not None:
        media = {"content": {NDJSON: {"schema": schemas.of(operation.answer_lines)}}}
        if operation.columns is not None:
            media["content"][CSV] = {"schema": {"type": "string"}}
    if operation.answer_events is not None:
        # A frame each; OpenAPI 3.1 has no word for that, so that the schema is of what stands behind `data:`.
        media = {"content": {EVENT_STREAM: {"schema": schemas.of(operation.answer_events)}}}
    return {
        str(status): {"description": HTTPStatus(status).phrase} | (media if status != HTTPStatus.NO_CONTENT else {})
        for status in operation.statuses
    }


def _errors(operation: Operation) -> dict[str, Any]:
    by_status: dict[str, list[type[PushdError]]] = {}
    for error in errors_of(operation):
        by_status.setdefault(str(error.status), []).append(error)
    schema = {"$ref": REF.format(name="Problem")}
    made: dict[str, Any] = {}
    for status, errors in by_status.items():
        text = "; ".join(f"`{error.code}`: {error.title}" for error in errors)
        made[status] = {"description": text, "content": {problem.CONTENT_TYPE: {"schema": schema}}}
        if any(error.retryable for error in errors):
            seconds = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
            made[status]["headers"] = {"Retry-After": seconds}
    return made


def _problem(error: type[PushdError]) -> dict[str, Any]:
    return {
        "code": error.code,
        "type": problem.TYPE_BASE + error.code,
        "status": error.status,
        "title": error.title,
        "retryable": error.retryable,
        "description": (error.__doc__ or "").split("\n")[0],
    }
