"""The Safari gateway, and the simulator that has signed the site's certificate."""

from pushd.batch import Rendered
from pushd.config import ApnsConfig
from pushd.gateways.safari import SafariGateway
from pushd.model.credential import SafariCertificate
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.simulator import Simulator

from .apns_certificate_far import ApnsCertificateFar

BODY = b'{"aps":{"alert":{"title":"t","body":"b"},"url-args":[]}}'
HEADERS = (("apns-push-type", "alert"), ("apns-priority", "10"))


class SafariFar(ApnsCertificateFar):
    """Website pushes."""

    route = Route(1, Kind.SAFARI, Environment.PRODUCTION, "web.com.example")
    payload = Rendered(payload=BODY, headers=HEADERS)

    async def start(self, directory, transport):
        self.simulator = Simulator(directory)
        await self.simulator.start()
        secret = SafariCertificate(
            p12=self.simulator.identity.p12([self.route.bundle], "apple"),
            password="apple",
            url_format="https://example.com/%@",
        )
        config = ApnsConfig(
            production_host="localhost", production_port=self.simulator.port, ca_file=str(self.simulator.ca_file)
        )
        self.gateway = SafariGateway(config, transport, self)
        self.secrets = {1: secret, 2: secret}
        await self.gateway.start()

    def message(self, number):
        return Rendered(payload=BODY.replace(b'"b"', b'"%d"' % number), headers=HEADERS)
