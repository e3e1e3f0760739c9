"""One connection to the relay: opened, logged in, used for many mails, and what each reply means for a row."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass

import aiosmtplib
import structlog
from aiosmtplib import SMTP

from protocols.smtp import Stage
from pushd import outcome
from pushd.config.email import EmailConfig
from pushd.gateways.email_answers import code_of

GOODBYE_S = 1.0

log = structlog.get_logger(__name__)


class RelayError(Exception):
    """No connection that takes mail: `code` is the outcome byte for what waits."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Relay:
    """How to reach the relay."""

    config: EmailConfig
    context: ssl.SSLContext | None
    password: str

    def __repr__(self) -> str:
        return f"Relay({self.config.relay_host!r})"

    async def connect(self) -> Connection:
        """An open connection that is logged in; RelayError."""
        config = self.config
        client = SMTP(
            hostname=config.relay_host,
            port=config.relay_port,
            local_hostname=config.local_hostname or None,
            timeout=config.connect_timeout_s,
            use_tls=config.security == "tls",
            start_tls=config.security == "starttls",
            tls_context=self.context,
        )
        try:
            await client.connect()
            if config.username:
                await client.login(config.username, self.password)
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            log.warning("relay_refuses", code=error.code)
            raise RelayError(code_of(Stage.LOGIN, error.code, error.message), f"reply {error.code}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            log.warning("connect_failed", pool="email", error=type(error).__name__)
            raise RelayError(outcome.NO_CONNECTION.code, type(error).__name__) from None
        return Connection(client, config)


class Connection:
    """A relay that listens."""

    def __init__(self, client: SMTP, config: EmailConfig) -> None:
        self._client = client
        self._config = config
        self.mails = 0
        self.broken = False
        """Whether it cannot carry another mail."""

    @property
    def worn(self) -> bool:
        """Whether another connection should carry the next mail."""
        return self.broken or self.mails >= self._config.mails_per_connection or not self._client.is_connected

    async def send(self, sender: str, recipient: str, mail: bytes) -> int:
        """The outcome byte of one mail."""
        self.mails += 1
        stage = Stage.MAIL
        wait_s = self._config.reply_timeout_s
        try:
            await self._client.mail(sender, timeout=wait_s)
            stage = Stage.RCPT
            await self._client.rcpt(recipient, timeout=wait_s)
            stage = Stage.DATA
            reply = await self._client.data(mail, timeout=wait_s)
        except aiosmtplib.SMTPResponseException as error:
            return await self._refused(stage, error.code, error.message)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            self.broken = True
            return _unanswered(stage, error)
        return code_of(stage, reply.code, reply.message)

    async def ask(self, sender: str) -> int:
        """The outcome byte of asking whether the relay takes mail from a sender, without sending any."""
        try:
            await self._client.mail(sender, timeout=self._config.reply_timeout_s)
        except aiosmtplib.SMTPResponseException as error:
            return code_of(Stage.MAIL, error.code, error.message)
        except (aiosmtplib.SMTPException, OSError):
            return outcome.CONNECTION_LOST.code
        return outcome.ACCEPTED.code

    async def close(self) -> None:
        """Says goodbye where there is somebody to hear it."""
        if self._client.is_connected and not self.broken:
            with suppress(aiosmtplib.SMTPException, OSError):
                await self._client.quit(timeout=GOODBYE_S)
        self._client.close()

    async def _refused(self, stage: Stage, code: int, text: str) -> int:
        """What a refusal means; the connection is made ready for the next mail."""
        if code < 200 or code == 421:
            self.broken = True
        else:
            try:
                await self._client.rset(timeout=self._config.reply_timeout_s)
            except (aiosmtplib.SMTPException, OSError):
                self.broken = True
        if code < 200:  # the library's own: a reply that is none
            return outcome.MALFORMED_RESPONSE.code
        if code == 421 and stage is not Stage.DATA:
            return outcome.NOT_WRITTEN.code
        return code_of(stage, code, text)


def _unanswered(stage: Stage, error: Exception) -> int:
    """What is known of a mail whose reply did not come: before its text was sent, that it was not taken."""
    if stage is not Stage.DATA:
        return outcome.NOT_WRITTEN.code
    timeout = isinstance(error, aiosmtplib.SMTPTimeoutError | TimeoutError)
    return outcome.RESPONSE_TIMEOUT.code if timeout else outcome.CONNECTION_LOST.code
