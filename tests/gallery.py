"""A server of pictures on a TLS socket, which moves, stalls, swells or lies, path by path."""

import asyncio
import io
import ssl
from collections import Counter
from contextlib import asynccontextmanager

from aiohttp import web
from PIL import Image

from pushd.config.pictures import PicturesConfig
from tests.pushd.transport.far_sides import certificate


def picture(size, colour=(200, 0, 0), kind="PNG"):
    """A file of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


class Gallery:
    """`files[path]` is what a path answers: octets, a status, another place, or a number of seconds of silence."""

    def __init__(self, ca_file):
        self.ca_file, self.port = ca_file, 0
        self.files = {}
        self.asked = Counter()

    def url(self, path):
        return f"https://localhost:{self.port}{path}"

    def config(self, **rest):
        """The configuration that lets pushd come here."""
        places = {"hosts": (f"localhost:{self.port}",), "networks_allowed": ("127.0.0.0/8", "::1/128")}
        return PicturesConfig(**places, ca_file=str(self.ca_file), **rest)

    async def answer(self, request):
        self.asked[request.path] += 1
        found = self.files.get(request.path, 404)
        if isinstance(found, float):
            await asyncio.sleep(found)
        if isinstance(found, str):
            return web.Response(status=302, headers={"Location": found})
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="image/png")
        return web.Response(status=int(found) if isinstance(found, int) else 204)


@asynccontextmanager
async def gallery(folder):
    """A running one."""
    made = Gallery(certificate(folder, label="gallery"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.ca_file)
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", made.answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
