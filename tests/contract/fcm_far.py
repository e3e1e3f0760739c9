"""FCM as a far side: the gateway and the local FCM."""

import msgspec

from pushd.batch import Rendered
from pushd.config.fcm import FcmConfig
from pushd.gateways.fcm import FcmGateway
from pushd.model.credential import FcmServiceAccount
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Answer, Close, Fault, Goaway, Silence
from pushd.simulator.fcm import LocalFcm
from tests.contract.far import Far


class FcmFar(Far):
    """The FCM gateway and the local FCM with its token endpoint."""

    route = Route(1, Kind.FCM, Environment.PRODUCTION, "com.example.app")
    payload = Rendered(payload=b'{"android":{"priority":"HIGH"},"notification":{"title":"hello"}}')
    unthrottled_s = 60.0
    dead_since_ms = None

    async def start(self, directory, transport):
        self.simulator = LocalFcm(directory)
        await self.simulator.start()
        secret = msgspec.convert(self.simulator.key_file, FcmServiceAccount)
        config = FcmConfig(
            host="localhost",
            port=self.simulator.port,
            oauth_host="localhost",
            oauth_port=self.simulator.oauth_port,
            ca_file=str(self.simulator.ca_file),
            ramp_s=0,
        )
        self.gateway = FcmGateway(config, transport, self)
        self.secrets = {1: secret, 2: secret}
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    async def stop(self):
        await self.gateway.stop(0.5)
        await self.simulator.stop()

    def token(self, number):
        return f"d3Fg_x:APA91b-{number:040}"

    def received(self):
        return dict(self.simulator.accepted)

    def message(self, number):
        return Rendered(payload=b'{"data":{"number":"%d"}}' % number)

    def _fault(self, action, number=None, **rest):
        self.simulator.faults.add(Fault(action=action, tokens=[] if number is None else [self.token(number)], **rest))

    def refuse(self, number):
        self._fault(Answer(reason="SOME_NEW_REASON", status=400), number)

    def kill(self, number):
        self._fault(Answer(reason="UNREGISTERED"), number)

    def throttle(self, number, retry_after):
        self._fault(Answer(reason="QUOTA_EXCEEDED", retry_after=retry_after), number)

    def outage(self):
        self._fault(Answer(reason="UNAVAILABLE"))

    def silence(self, number):
        self._fault(Silence(), number)

    def refuse_credential(self):
        self._fault(Answer(reason="PERMISSION_DENIED", status=403))

    def babble(self, number):
        self._fault(Answer(status=502, html=True), number)

    def cut(self, number):
        self._fault(Close(how="abort"), number)

    def leave(self):
        self._fault(Goaway(last="seen", close_after_ms=100), count=1)
