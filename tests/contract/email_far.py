"""The e-mail gateway and a relay of its own."""

import msgspec

from pushd.batch import Rendered
from pushd.config import EmailConfig
from pushd.gateways.email import EmailGateway
from pushd.model.credential import EmailSender
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.smtp import Script, SmtpSimulator

from .far import Far


class EmailFar(Far):
    """The e-mail gateway and the relay."""

    route = Route(1, Kind.EMAIL, Environment.PRODUCTION, "")
    payload = Rendered(payload=b'{"subject":"Hello","text":"Apples"}')
    dead_since_ms = None
    tells_when = False

    async def start(self, directory, transport):
        self.simulator = SmtpSimulator()
        await self.simulator.start()
        config = EmailConfig(
            relay_host="127.0.0.1",
            relay_port=self.simulator.port,
            security="none",
            connect_timeout_s=transport.connect_timeout_s,
            reply_timeout_s=transport.response_timeout_s,
            idle_close_s=0.2,
        )
        self.gateway = EmailGateway(config, self)
        secret = EmailSender(from_address="orchard@example.com", from_name="Orchard")
        self.secrets = {1: secret, 2: msgspec.structs.replace(secret, reply_to="a@example.com")}
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    async def stop(self):
        await self.gateway.stop(0.5)
        await self.simulator.stop()
        assert not self.simulator.violations

    def token(self, number):
        return f"ada.{number}+news@example.org"

    def received(self):
        return dict(self.simulator.arrived)

    def message(self, number):
        return Rendered(payload=b'{"subject":"Hello","text":"%d"}' % number)

    def _script(self, number, stage, reply):
        self.simulator.scripts["" if number is None else self.token(number)] = Script(stage, reply)

    def refuse(self, number):
        self._script(number, "end", b"554 5.6.0 Not like this")

    def kill(self, number):
        self._script(number, "rcpt", b"550 5.1.1 No such user")

    def throttle(self, number, retry_after):
        self._script(number, "rcpt", b"451 4.7.1 Slow down, come back in " + retry_after.encode())

    def outage(self):
        self._script(None, "mail", b"451 4.3.0 Queue file write error")

    def silence(self, number):
        self._script(number, "end", None)

    def refuse_credential(self):
        self._script(None, "mail", b"550 5.7.1 Sender not allowed")

    def babble(self, number):
        self._script(number, "rcpt", b"<html>")

    def cut(self, number):
        self._script(number, "end", b"")

    def leave(self):
        self.simulator.leave = 1
