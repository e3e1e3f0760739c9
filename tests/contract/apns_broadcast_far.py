"""The APNs gateway and the simulator, with broadcast channels in place of devices."""

import base64

from pushd.batch import Rendered
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Answer

from .apns_far import ApnsFar


class ApnsBroadcastFar(ApnsFar):
    """Pushes to channels."""

    route = Route(1, Kind.APNS_CHANNEL, Environment.PRODUCTION, "com.example.app")
    payload = Rendered(
        payload=b'{"aps":{"timestamp":1,"event":"update","content-state":{}}}',
        headers=(("apns-push-type", "liveactivity"), ("apns-priority", "10")),
    )
    dead_since_ms = None

    def token(self, number):
        channel_id = base64.b64encode(number.to_bytes(16, "big")).decode()
        self.simulator.channels.add(Environment.PRODUCTION, self.route.bundle, channel_id, stores=False)
        return channel_id

    def received(self):
        return {bytes.fromhex(token).decode(): count for token, count in super().received().items()}

    def kill(self, number):
        self._fault(Answer(reason="ChannelNotRegistered"), number)
