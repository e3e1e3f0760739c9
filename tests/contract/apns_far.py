"""The APNs gateway and the simulator that answers it."""

from pushd.batch import Rendered
from pushd.config import ApnsConfig
from pushd.gateways.apns import ApnsGateway
from pushd.model.credential import ApnsToken
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Answer, Close, Fault, Goaway, Silence
from pushd.simulator.simulator import Simulator

from .far import Far


class ApnsFar(Far):
    """The APNs gateway and the simulator."""

    route = Route(1, Kind.APNS, Environment.PRODUCTION, "com.example.app")
    payload = Rendered(
        payload=b'{"aps":{"alert":"hello"}}', headers=(("apns-push-type", "alert"), ("apns-priority", "10"))
    )

    async def start(self, directory, transport):
        self.simulator = Simulator(directory)
        await self.simulator.start()
        (key,) = self.simulator.identity.keys.values()
        pem = self.simulator.identity.pem(key.key_id)
        secret = ApnsToken(team_id=key.team_id, key_id=key.key_id, private_key=pem)
        config = ApnsConfig(
            production_host="localhost", production_port=self.simulator.port, ca_file=str(self.simulator.ca_file)
        )
        self.gateway = ApnsGateway(config, transport, self)
        self.secrets = {1: secret, 2: secret}
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    async def stop(self):
        await self.gateway.stop(0.5)
        await self.simulator.stop()

    def token(self, number):
        return f"{number:064x}"

    def received(self):
        return dict(self.simulator.record.accepted_tokens())

    def _fault(self, action, number=None, **rest):
        self.simulator.faults.add(Fault(action=action, tokens=[] if number is None else [self.token(number)], **rest))

    def refuse(self, number):
        self._fault(Answer(reason="PayloadTooLarge"), number)

    def kill(self, number):
        self._fault(Answer(reason="Unregistered", timestamp=1_700_000_000_000), number)

    def throttle(self, number, retry_after):
        self._fault(Answer(reason="TooManyRequests", retry_after=retry_after), number)

    def outage(self):
        self._fault(Answer(reason="ServiceUnavailable"))

    def silence(self, number):
        self._fault(Silence(), number)

    def refuse_credential(self):
        self._fault(Answer(reason="InvalidProviderToken"))

    def babble(self, number):
        self._fault(Answer(status=502, html=True), number)

    def cut(self, number):
        self._fault(Close(how="abort"), number)

    def leave(self):
        self._fault(Goaway(last="seen", close_after_ms=100), count=1)
