"""A local SMTP relay: strict about commands and line ends, with replies to script by recipient (RFC 5321)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import ssl
from collections import Counter
from typing import Any, NamedTuple

from pushd.errors import ConfigError
from pushd.service import Service

LINE_MAX = 1_000
"""RFC 5321 section 4.5.3.1.6, text lines; commands have 512."""
MAIL_MAX = 4_194_304
MAILS_KEPT = 10_000
CLOSE_TIMEOUT_S = 1.0
PATH = re.compile(rb"(?i)(?:MAIL FROM|RCPT TO):<([!-;=?-~]*)>(?: [!-~ ]*)?")


class Mail(NamedTuple):
    """One mail that was taken."""

    sender: str
    recipient: str
    octets: bytes


class Script(NamedTuple):
    """What happens to a mail in place of the ordinary reply."""

    stage: str
    """`login`, `mail`, `rcpt`, `data` (before the text), `end` (after it)."""
    reply: bytes | None
    """None: silence. Empty: the connection is cut."""


class SmtpSimulator(Service):
    """A local relay. `scripts` by recipient (or "" for any) say what it replies in place of taking the mail."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        users: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.host, self.port = host, port
        self.users = users or {}
        """Passwords by user; none: no login is asked for."""
        self.scripts: dict[str, Script] = {}
        self.mails: list[Mail] = []
        self.arrived: Counter[str] = Counter()
        """Mails taken, by recipient."""
        self.violations: list[str] = []
        """What no correct client does."""
        self.connections = 0
        self.leave = 0
        """So many of the next MAIL commands are answered with 421 and a close."""
        self.starttls = starttls
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listens; `port` is then the one it got."""
        try:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes listener and connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_TIMEOUT_S)
            self._server = None
        await super().stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, ssl.SSLError):
            pass  # a client that went away
        finally:
            self._open.discard(writer)
            writer.close()


class _Session:
    """One connection."""

    def __init__(self, relay: SmtpSimulator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.relay, self.reader, self.writer = relay, reader, writer
        self.user = self.greeted = False
        self.secure = writer.get_extra_info("ssl_object") is not None
        self.sender: str | None = None
        self.recipient: str | None = None

    async def run(self) -> None:
        """Serves commands until the client quits or is cut off."""
        self._say(b"220 relay.example ESMTP")
        while True:
            line = await self.reader.readuntil(b"\n")
            if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line or len(line) > 512:
                self.relay.violations.append("a command line that is none")
                self._say(b"500 5.5.2 Syntax error")
                continue
            verb = re.split(rb"[ :]", line.strip(), maxsplit=1)[0].upper().decode("latin-1")
            handler: Any = getattr(self, f"_on_{verb.lower()}", None)
            if handler is None:
                self._say(b"502 5.5.1 Command not implemented")
            elif await handler(line[:-2]):
                return

    async def _on_ehlo(self, _: bytes) -> None:
        self.greeted = True
        self.sender = self.recipient = None
        offers = [b"relay.example", b"ENHANCEDSTATUSCODES", b"SIZE %d" % MAIL_MAX]
        if self.relay.starttls is not None and not self.secure:
            offers.append(b"STARTTLS")
        elif self.relay.users:
            offers.append(b"AUTH PLAIN")
        for offer in offers[:-1]:
            self._say(b"250-" + offer)
        self._say(b"250 " + offers[-1])

    async def _on_starttls(self, _: bytes) -> bool:
        if self.relay.starttls is None or self.secure:
            self._say(b"454 4.7.0 TLS not available")
            return False
        self._say(b"220 2.0.0 Ready")
        await self.writer.drain()
        await self.writer.start_tls(self.relay.starttls)
        self.secure, self.greeted = True, False
        return False

    async def _on_auth(self, line: bytes) -> None:
        script = self.relay.scripts.get("")
        if script is not None and script.stage == "login":
            self._say(script.reply or b"454 4.7.0 Later")
            return
        try:
            _, user, password = base64.b64decode(line.split(b" ")[2], validate=True).decode().split("\0")
        except (IndexError, ValueError, binascii.Error):
            self._say(b"501 5.5.2 Cannot decode")
            return
        self.user = self.relay.users.get(user) == password
        self._say(b"235 2.7.0 Authenticated" if self.user else b"535 5.7.8 Authentication credentials invalid")

    async def _on_mail(self, line: bytes) -> bool:
        path = PATH.fullmatch(line)
        if self.relay.leave:
            self.relay.leave -= 1
            self._say(b"421 4.3.2 Shutting down")
            return True
        if not self.greeted or self.sender is not None or path is None:
            self.relay.violations.append("MAIL out of order, or with another path")
            self._say(b"503 5.5.1 Bad sequence")
            return False
        if self.relay.users and not self.user:
            self._say(b"530 5.7.0 Authentication required")
            return False
        if await self._scripted("mail", ""):
            return False
        self.sender = path[1].decode()
        self._say(b"250 2.1.0 Sender ok")
        return False

    async def _on_rcpt(self, line: bytes) -> None:
        path = PATH.fullmatch(line)
        if self.sender is None or path is None:
            self.relay.violations.append("RCPT out of order, or with another path")
            self._say(b"503 5.5.1 Bad sequence")
        elif not await self._scripted("rcpt", path[1].decode()):
            self.recipient = path[1].decode()
            self._say(b"250 2.1.5 Recipient ok")

    async def _on_data(self, _: bytes) -> None:
        if self.sender is None or self.recipient is None:
            self.relay.violations.append("DATA out of order")
            self._say(b"503 5.5.1 Bad sequence")
            return
        sender, recipient = self.sender, self.recipient
        if await self._scripted("data", recipient):
            return
        self._say(b"354 Go on")
        octets = await self._text()
        self.sender = self.recipient = None
        if await self._scripted("end", recipient):
            return
        self.relay.mails = [*self.relay.mails[1 - MAILS_KEPT :], Mail(sender, recipient, octets)]
        self.relay.arrived[recipient] += 1
        self._say(b"250 2.0.0 Queued")

    async def _on_rset(self, _: bytes) -> None:
        self.sender = self.recipient = None
        self._say(b"250 2.0.0 Ok")

    async def _on_noop(self, _: bytes) -> None:
        self._say(b"250 2.0.0 Ok")

    async def _on_quit(self, _: bytes) -> bool:
        self._say(b"221 2.0.0 Bye")
        return True

    async def _text(self) -> bytes:
        """The mail's octets, without the dots that transparency added (RFC 5321 section 4.5.2)."""
        lines = []
        while (line := await self.reader.readuntil(b"\n")) != b".\r\n":
            if not line.endswith(b"\r\n") or b"\r" in line[:-2] or len(line) > LINE_MAX or max(line) > 0x7F:
                self.relay.violations.append("a text line that is none, too long, or with octets of eight bits")
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    async def _scripted(self, stage: str, recipient: str) -> bool:
        """Whether a script replied at this stage."""
        for name in (recipient, ""):
            script = self.relay.scripts.get(name)
            if script is not None and script.stage == stage:
                if script.reply is None:
                    await asyncio.sleep(3_600)
                elif not script.reply:
                    self.writer.transport.abort()
                    raise ConnectionAbortedError
                else:
                    self._say(script.reply)
                return True
        return False

    def _say(self, line: bytes) -> None:
        self.writer.write(line + b"\r\n")
