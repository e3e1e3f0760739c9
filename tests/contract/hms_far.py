"""The HMS gateway and its simulator; one device per request, so that answers are of one row as elsewhere."""

from pushd.batch import Rendered
from pushd.config import HmsConfig
from pushd.gateways.hms import HmsGateway
from pushd.model.credential import HmsClient
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Answer, Close, Goaway, Silence
from pushd.simulator.hms import HmsSimulator
from pushd.simulator.identity import Identity

from .far import Far

MESSAGE = b'{"validate_only":false,"message":{"data":"{}","token":[]}}'


class HmsFar(Far):
    """The HMS gateway and the simulator."""

    route = Route(1, Kind.HMS, Environment.PRODUCTION, "com.example.app")
    payload = Rendered(payload=MESSAGE)
    dead_since_ms = None

    async def start(self, directory, transport):
        identity = Identity(directory)
        self.simulator = HmsSimulator(identity)
        await self.simulator.start()
        ((client_id, client_secret),) = self.simulator.clients.items()
        secret = HmsClient(client_id=client_id, client_secret=client_secret)
        config = HmsConfig(
            host="localhost",
            port=self.simulator.port,
            oauth_host="localhost",
            oauth_port=self.simulator.port,
            ca_file=str(identity.ca_file),
            tokens_per_request=1,
            transactional_tokens_per_request=1,
        )
        self.gateway = HmsGateway(config, transport, self)
        self.secrets = {1: secret, 2: secret}
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    async def stop(self):
        await self.gateway.stop(0.5)
        await self.simulator.stop()
        assert not self.simulator.violations

    def token(self, number):
        return f"IQAAAACy{number:08d}:_-Aq"

    def received(self):
        return dict(self.simulator.arrived)

    def message(self, number):
        return Rendered(payload=MESSAGE.replace(b'"{}"', b'"%d"' % number))

    def _code(self, code, status=200):
        return Answer(status=status, body=f'{{"code":"{code}","msg":"scripted","requestId":"1"}}')

    def refuse(self, number):
        self.simulator.fault(self._code("80100003"), self.token(number))

    def kill(self, number):
        self.simulator.unregistered.add(self.token(number))

    def throttle(self, number, retry_after):
        self.simulator.fault(Answer(status=503, retry_after=retry_after), self.token(number))

    def outage(self):
        self.simulator.fault(Answer(status=500))

    def silence(self, number):
        self.simulator.fault(Silence(), self.token(number))

    def refuse_credential(self):
        self.simulator.fault(self._code("80200001", 401))

    def babble(self, number):
        self.simulator.fault(Answer(status=200, html=True), self.token(number))

    def cut(self, number):
        self.simulator.fault(Close(how="abort"), self.token(number))

    def leave(self):
        self.simulator.fault(Goaway(last="seen"), count=1)
