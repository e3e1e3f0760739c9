"""Uploaded files: raw or in a form, in any pieces, within bytes and silence; what is no form is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import pytest

from pushd.web.answer import Answer
from pushd.web.upload import FORM

pytestmark = pytest.mark.asyncio

CSV = "text/csv"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.CSV"\r\nContent-Type: text/csv; charset=utf-8\r\n\r\n'


async def length(incoming):
    """How many bytes a file has, and in how few pieces it came."""
    upload = await incoming.upload(types=frozenset({FORM, CSV}), bytes_max=200_000, idle_s=0.3)
    pieces = [len(chunk) async for chunk in upload.chunks(suffix=".csv", types=frozenset({CSV}))]
    return Answer(json.dumps({"bytes": sum(pieces), "most": max(pieces, default=0)}).encode())


async def whole(incoming):
    upload = await incoming.upload(types=frozenset({CSV}), bytes_max=200_000, idle_s=0.3)
    return Answer(b"%d" % len(await upload.whole(1_000)))


@pytest.fixture
def uploads(serve, connect):
    """A function that gives status and JSON of the answer to a request, written in these pieces."""

    @asynccontextmanager
    async def serving():
        endpoints = [("POST", "/length/{x}", length), ("POST", "/whole/{x}", whole)]
        async with serve(endpoints=endpoints) as server:

            async def post(pieces, headers, path="/length/1", size=None):
                total = sum(map(len, pieces)) if size is None else size
                async with connect(server.port) as wire:
                    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {total}", *headers]
                    wire.write("\r\n".join(lines).encode() + b"\r\n\r\n")
                    for piece in pieces:
                        wire.write(piece)
                        await asyncio.sleep(0.001)
                    status, _, body = await wire.answer()
                    return status, json.loads(body)

            yield post

    return serving


def form(*files, boundary=b"b0undary"):
    parts = b"".join(b"--" + boundary + b"\r\n" + head + body + b"\r\n" for head, body in files)
    return parts + b"--" + boundary + b"--\r\n"


def cut(raw, size):
    return [raw[at : at + size] for at in range(0, len(raw), size)]


FORM_TYPE = ["Content-Type: multipart/form-data; boundary=b0undary"]


@pytest.mark.parametrize("size", [7, 1_000, 200_000])
async def test_a_file_comes_raw_or_in_a_form_in_any_pieces(uploads, size):
    body = b"ada\r\n--b0undar\r\n" * 100
    async with uploads() as post:
        assert (await post(cut(body, size), [f"Content-Type: {CSV}"]))[1]["bytes"] == len(body)
        assert (await post(cut(form((FILE, body)), size), FORM_TYPE))[1]["bytes"] == len(body)
        packed = gzip.compress(body)
        status, answer = await post(cut(packed, size), [f"Content-Type: {CSV}", "Content-Encoding: gzip"])
        assert (status, answer["bytes"]) == (200, len(body))


async def test_a_file_is_read_piece_by_piece(uploads):
    async with uploads() as post:
        _, answer = await post([form((FILE, b"x" * 150_000))], FORM_TYPE)
        assert answer["bytes"] == 150_000
        assert answer["most"] <= 65_536 * 2


async def test_a_body_past_its_bounds_is_refused(uploads):
    async with uploads() as post:
        for pieces, headers in (
            ([b"x" * 200_001], [f"Content-Type: {CSV}"]),
            ([form((FILE, b"x" * 200_001))], FORM_TYPE),
        ):
            status, answer = await post(pieces, headers)
            assert (status, answer["code"]) == (413, "payload_too_large"), headers
        assert (await post([b"x" * 1_001], [f"Content-Type: {CSV}"], path="/whole/1"))[0] == 413
        assert (await post([b"x" * 1_000], [f"Content-Type: {CSV}"], path="/whole/1")) == (200, 1_000)


@pytest.mark.parametrize("begun", [b"", form((FILE, b"ada\n"))[:30], form((FILE, b"ada\n"))[:-15]])
async def test_a_body_that_falls_silent_is_cut(uploads, begun):
    async with uploads() as post:
        status, answer = await post([begun], FORM_TYPE, size=10_000)
        assert (status, answer["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ada\n",
        b"\r\n" * 501 + form((FILE, b"ada")),
        form(),
        form((b'Content-Disposition: form-data; name="file"\r\n\r\n', b"ada")),
        form((FILE, b"ada"), (FILE, b"bob")),
        form((FILE.replace(b".CSV", b".txt"), b"ada")),
        form((FILE.replace(b"text/csv", b"text/html"), b"ada")),
        form((FILE, b"ada"))[:-8],
        b"--b0undary\r\n" + b"x" * 70_000 + b"\r\n\r\n",
        form((FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: odd\r\n\r\n"), b"ada"))[:40],
        form((b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n", form((FILE, b"a"), boundary=b"inner"))),
    ],
)
async def test_what_is_not_one_file_in_a_form_is_refused(uploads, body):
    async with uploads() as post:
        status, answer = await post([body], FORM_TYPE)
        assert (status, [each["pointer"] for each in answer["errors"]]) == (400, ["/file"]), answer


async def test_other_types_are_refused(uploads):
    async with uploads() as post:
        for kind in ("application/json", "text/csv; charset=latin-1", "multipart/mixed; boundary=x"):
            assert (await post([b"a"], [f"Content-Type: {kind}"]))[0] == 415
        status, answer = await post([b"a"], ["Content-Type: multipart/form-data"])
        assert (status, answer["code"]) == (400, "invalid_request")
