"""The APNs gateway with a certificate, and the simulator that has signed it."""

from pushd.config import ApnsConfig
from pushd.gateways.apns import ApnsGateway
from pushd.model.credential import ApnsCertificate
from pushd.simulator.faults import Answer
from pushd.simulator.simulator import Simulator

from .apns_far import ApnsFar


class ApnsCertificateFar(ApnsFar):
    """Links that prove themselves in TLS."""

    async def start(self, directory, transport):
        self.simulator = Simulator(directory)
        await self.simulator.start()
        secret = ApnsCertificate(p12=self.simulator.identity.p12([self.route.bundle], "apple"), password="apple")
        config = ApnsConfig(
            production_host="localhost", production_port=self.simulator.port, ca_file=str(self.simulator.ca_file)
        )
        self.gateway = ApnsGateway(config, transport, self)
        self.secrets = {1: secret, 2: secret}
        await self.gateway.start()

    def refuse_credential(self):
        self._fault(Answer(reason="BadCertificate"))
