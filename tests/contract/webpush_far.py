"""The Web Push gateway and the local push service, over HTTP/2 or over HTTP/1.1 alone."""

from protocols import vapid, webpush
from pushd.batch import Rendered
from pushd.config.webpush import WebPushConfig
from pushd.credentials import vapid_keys
from pushd.gateways.webpush import WebPushGateway
from pushd.model.credential import VapidKeys
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Answer, Close, Fault, Goaway, Silence
from pushd.simulator.webpush import PushService

from .far import Far


def config_for(service, **rest):
    """The configuration that lets the gateway reach a local push service."""
    return WebPushConfig(
        hosts_added=(f"localhost:{service.port}", f"localhost:{service.http1_port}"),
        networks_allowed=("127.0.0.0/8", "::1/128"),
        ca_file=str(service.identity.ca_file),
        **rest,
    )


def address(subscriber):
    """A subscription as it is stored."""
    made = subscriber.to_json()
    key = vapid.fingerprint(subscriber.key) if subscriber.key else ""
    return webpush.address(made["endpoint"], made["keys"]["p256dh"], made["keys"]["auth"], key)


def public(secret):
    return vapid.public_bytes(vapid.load_private(secret.private_key).public_key())


class WebPushFar(Far):
    """Every credential has a key of its own; subscriptions are made with the first's, unless they know none."""

    route = Route(1, Kind.WEBPUSH, Environment.PRODUCTION, "")
    payload = Rendered(payload=b'{"title":"hello"}', headers=(("urgency", "high"), ("topic", "pushd-11")))
    dead_since_ms = None
    unthrottled_s = 60.0
    provable = False
    many = 300
    http1 = False

    async def start(self, directory, transport):
        self.service = PushService(directory, seed="contract")
        await self.service.start()
        one = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
        self.secrets = {1: one, 2: one}
        self.addresses = {}
        self.gateway = WebPushGateway(config_for(self.service, encrypt_workers=1), transport, self)
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    async def stop(self):
        await self.gateway.stop(0.5)
        await self.service.stop()

    def token(self, number):
        if number not in self.addresses:
            key = public(self.secrets[2])
            self.addresses[number] = address(self.service.subscribe(key, name=f"n{number}", http1=self.http1))
        return self.addresses[number]

    def received(self):
        return {self.token(int(name[1:])): count for name, count in self.service.accepted.items()}

    def _fault(self, action, number=None, **rest):
        self.service.faults.add(Fault(action=action, tokens=[] if number is None else [f"n{number}"], **rest))

    def refuse(self, number):
        self._fault(Answer(status=413, body='{"errno":104}'), number)

    def kill(self, number):
        self._fault(Answer(status=410, body='{"errno":106}'), number)

    def throttle(self, number, retry_after):
        self._fault(Answer(status=429, retry_after=retry_after), number)

    def outage(self):
        self._fault(Answer(status=503, body='{"errno":201}'))

    def silence(self, number):
        self._fault(Silence(), number)

    def refuse_credential(self):
        self._fault(Answer(status=403, body='{"reason":"BadJwtToken"}'))

    def babble(self, number):
        self._fault(Answer(status=502, html=True), number)

    def cut(self, number):
        self._fault(Close(how="abort"), number)

    def leave(self):
        self._fault(Goaway(last="seen", close_after_ms=100), count=1)


class WebPushHttp1Far(WebPushFar):
    """The same where the service knows no HTTP/2."""

    http1 = True

    def leave(self):
        """HTTP/1.1 has no goodbye before the end of an answer."""
        self._fault(Answer(status=201), 21)
