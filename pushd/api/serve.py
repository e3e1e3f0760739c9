"""From the table to the wire: the endpoint of each operation, mounted under /pushd/v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from pushd.api.operation import Operation, Reply, Scope
from pushd.api.request import Request
from pushd.config.http import HttpConfig
from pushd.errors import Fault, ForbiddenError, InvalidRequestError, NotFoundError, PushdError
from pushd.model.app import Key, Role
from pushd.model.device import ID_MAX
from pushd.web import problem, sse, table
from pushd.web.answer import JSON, Answer
from pushd.web.auth import Authenticator
from pushd.web.caller import Caller
from pushd.web.cursor import Cursors
from pushd.web.deadlines import Deadlines
from pushd.web.decode import JsonBody, Parameters, no_parameters
from pushd.web.incoming import Incoming
from pushd.web.ndjson import LineReader
from pushd.web.router import Endpoint, Router

if TYPE_CHECKING:
    from pushd.commands.context import Context

PREFIX = "/pushd/v1"
APP_HEADER = "Pushd-App"
NDJSON = "application/x-ndjson"

_JSON_TYPES = frozenset({JSON})
_NDJSON_TYPES = frozenset({NDJSON, "application/jsonl", "application/ndjson"})
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


class Api:
    """Mounts operations: it holds what all their endpoints share."""

    def __init__(self, context: Context, auth: Authenticator, cursors: Cursors, config: HttpConfig) -> None:
        self.context = context
        self.auth = auth
        self.cursors = cursors
        self.config = config
        self._deadlines = Deadlines(config.request_timeout_s)

    def mount(self, router: Router, operations: Iterable[Operation]) -> None:
        """Routes every operation."""
        for operation in operations:
            whole = operation.body_lines is None and not operation.media
            brief = whole and operation.answer_lines is None and operation.answer_events is None
            router.add(operation.method, PREFIX + operation.path, self._endpoint(operation), brief=brief)

    def _endpoint(self, operation: Operation) -> Endpoint:
        parameters = _parameters(operation)
        body = _body(operation, self.config)
        respond: Callable[..., Awaitable[Answer | web.StreamResponse]] = _respond
        if operation.answer_lines is not None:
            respond = _respond_lines
        elif operation.answer_events is not None:
            respond = _respond_events
        handler = operation.handler

        async def endpoint(incoming: Incoming) -> Answer | web.StreamResponse:
            key = await self.auth.key(incoming)
            if key.role not in operation.roles:
                raise ForbiddenError(f"A {key.role} key may not do this")
            app_id = await self._app(operation.scope, key, incoming)
            params = parameters(incoming)
            raw, value, lines = await body(incoming)
            upload = None
            if operation.media:
                upload = await incoming.upload(
                    types=operation.media,
                    bytes_max=self.config.bulk_body_bytes_max,
                    idle_s=self.config.stream_idle_timeout_s,
                )
            request: Request[Any, Any] = Request(
                body=value,
                params=params,
                raw=raw,
                incoming=incoming,
                app_id=app_id,
                cursors=self.cursors,
                page_max=self.config.page_items_max,
                lines=lines,
                upload=upload,
            )
            work = handler(self.context, Caller(key, app_id), request)
            # An upload takes as long as it takes: its pieces have a deadline each.
            result = await (work if operation.media else self._deadlines.within(work))
            return await respond(operation, incoming, result, self.config, params)

        return endpoint

    async def _app(self, scope: Scope, key: Key, incoming: Incoming) -> int | None:
        """The app that a request acts on; NotFoundError for any that is not there for this key."""
        if scope is Scope.INSTALLATION:
            return key.app_id
        named = incoming.headers.get(APP_HEADER)
        if named is None:
            if key.app_id is None and scope is Scope.APP:
                fault = Fault(APP_HEADER, "an admin key names the app it acts on by this header")
                raise InvalidRequestError(faults=[fault])
            return key.app_id
        app_id = int(named) if named.isascii() and named.isdigit() and len(named) <= 10 else 0
        if key.role is Role.ADMIN and 0 < app_id <= ID_MAX:
            if await self.context.store.apps.get(app_id) is None:
                raise NotFoundError("There is no such app")
        elif app_id != key.app_id:
            raise NotFoundError("There is no such app")
        return app_id


def _parameters(operation: Operation) -> Callable[[Incoming], Any]:
    if operation.params is None:

        def none(incoming: Incoming) -> None:
            if incoming.raw_query:
                no_parameters(incoming.raw_query)

        return none
    decoder = Parameters(operation.params, operation.path_params)
    return lambda incoming: decoder.decode(incoming.path_values, incoming.raw_query)


def _body(operation: Operation, config: HttpConfig) -> Callable[[Incoming], Awaitable[tuple[bytes, Any, Any]]]:
    """Reads a body as (bytes, value, lines), whichever of them the operation has."""
    if operation.body_lines is not None:

        async def lines(incoming: Incoming) -> tuple[bytes, Any, LineReader]:
            return (
                b"",
                None,
                await incoming.lines(
                    types=_NDJSON_TYPES,
                    bytes_max=config.bulk_body_bytes_max,
                    line_bytes_max=config.line_bytes_max,
                    idle_s=config.stream_idle_timeout_s,
                ),
            )

        return lines

    decode = operation.parse or (None if operation.body is None else JsonBody[Any](operation.body).decode)

    async def whole(incoming: Incoming) -> tuple[bytes, Any, None]:
        if decode is None:
            return b"", None, None
        raw = await incoming.body(types=_JSON_TYPES, bytes_max=config.body_bytes_max, timeout_s=config.body_timeout_s)
        return raw, decode(raw), None

    return whole


async def _respond(operation: Operation, _: Incoming, result: Any, __: HttpConfig, ___: Any) -> Answer:
    status, headers = operation.statuses[0], None
    if isinstance(result, Reply):
        status, headers, result = result.status or status, result.headers, result.body
    if status == 204:
        return Answer(status=204, headers=headers)
    return Answer(result if isinstance(result, bytes) else _encode(result), status=status, headers=headers)


async def _respond_lines(
    operation: Operation, incoming: Incoming, result: AsyncGenerator[Any, None], config: HttpConfig, params: Any
) -> web.StreamResponse:
    """Streams lines, or lists of them, each in one write.

    An error before the first is an answer of its own; a later one is the last line, for the status has gone out. In CSV
    there is no line for it: the answer breaks off without its last chunk.
    """
    columns = None if operation.columns is None else operation.columns(params)
    encode = _lines if columns is None else table.rows
    async with aclosing(result):
        line = await anext(result, None)
        response = web.StreamResponse(
            status=operation.statuses[0], headers={"Server": "pushd", "X-Request-Id": incoming.id}
        )
        response.content_type = NDJSON if columns is None else table.CSV
        await response.prepare(incoming)
        try:
            if columns is not None:
                await _write(response, table.header(columns), config)
            while line is not None:
                await _write(response, encode(line), config)
                line = await anext(result, None)
        except PushdError as error:
            if columns is not None:
                raise ConnectionResetError("the export could not be finished") from error
            await _write(response, problem.encode(error, incoming.id) + b"\n", config)
            response.force_close()
    await response.write_eof()
    return response


def _lines(value: Any) -> bytes:
    return _encode_lines(value if isinstance(value, list) else [value])


async def _respond_events(
    _: Operation, incoming: Incoming, result: AsyncGenerator[Any, None], config: HttpConfig, __: Any
) -> web.StreamResponse:
    return await sse.respond(incoming, result, config.stream_idle_timeout_s)


async def _write(response: web.StreamResponse, data: bytes, config: HttpConfig) -> None:
    try:
        async with asyncio.timeout(config.stream_idle_timeout_s):
            await response.write(data)
    except TimeoutError:
        raise ConnectionResetError("the client does not read its answer") from None
