"""Marionette: the protocol by which Firefox is driven from outside, as far as tests need it (Gecko, "Marionette")."""

import asyncio
import json
from contextlib import asynccontextmanager

OPTIONS = ("--marionette", "--remote-allow-system-access")
PREFERENCES = {"marionette.port": 0}
"""A free one; its number is in the profile then."""
STARTS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 30.0


class Marionette:
    """One session. Messages are `length:JSON`; [0, id, command, parameters] there, [1, id, error, result] back."""

    def __init__(self, reader, writer):
        self._reader, self._writer, self._number = reader, writer, 0

    async def __call__(self, command, **parameters):
        self._number += 1
        raw = json.dumps([0, self._number, command, parameters]).encode()
        self._writer.write(b"%d:%s" % (len(raw), raw))
        while True:
            kind, number, error, result = await asyncio.wait_for(self.read(), ANSWERS_WITHIN_S)
            if (kind, number) == (1, self._number):
                assert error is None, error
                return result

    async def read(self):
        """The next message."""
        length = int((await self._reader.readuntil(b":"))[:-1])
        return json.loads(await self._reader.readexactly(length))

    async def run(self, script, *arguments, chrome=False):
        """What an async function of this body returns, in the page or with the browser's own rights."""
        await self("Marionette:SetContext", value="chrome" if chrome else "content")
        body = (
            "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
            f"(async (...given) => {{ {script} }})(...given)"
            ".then(value => done({value}), error => done({error: `${error}`}));"
        )
        told = await self("WebDriver:ExecuteAsyncScript", script=body, args=list(arguments), newSandbox=False)
        assert "error" not in told["value"], told["value"]["error"]
        return told["value"].get("value")


@asynccontextmanager
async def driven(profile):
    """A session with the Firefox of this profile."""
    file = profile / "MarionetteActivePort"
    async with asyncio.timeout(STARTS_WITHIN_S):
        while not (file.exists() and file.read_text().strip()):
            await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(file.read_text()))
    try:
        session = Marionette(reader, writer)
        await session.read()
        await session("WebDriver:NewSession", strictFileInteractability=True)
        yield session
    finally:
        writer.close()
