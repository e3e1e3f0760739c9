"""Doubles of the fan-out's neighbours that are implementations: a gateway that follows a script, a store in memory."""

import asyncio
from collections import Counter, defaultdict

import numpy as np

from pushd.bitset import Devices
from pushd.errors import UnavailableError
from pushd.model.credential import CredentialState
from pushd.model.device import GatewayName
from pushd.outcome import ACCEPTED, VENDOR_CODES_FROM, Outcome, Reason, Reasons
from pushd.store.settlements import Committed

GONE = Reason(VENDOR_CODES_FROM, "gone", Outcome.UNREGISTERED)
BAD = Reason(VENDOR_CODES_FROM + 1, "bad", Outcome.REJECTED)
DOWN = Reason(VENDOR_CODES_FROM + 2, "down", Outcome.UNAVAILABLE)
SLOW_DOWN = Reason(VENDOR_CODES_FROM + 3, "slow_down", Outcome.THROTTLED)
REFUSED = Reason(VENDOR_CODES_FROM + 4, "refused", Outcome.MISCONFIGURED)
TOPIC_REFUSED = Reason(VENDOR_CODES_FROM + 5, "topic_refused", Outcome.MISCONFIGURED, topic_only=True)
VENDOR = (GONE, BAD, DOWN, SLOW_DOWN, REFUSED, TOPIC_REFUSED)


class ScriptedGateway:
    """Answers every batch by a function; records what it was given.

    `gate`, while cleared, holds the answers to every batch that `hangs` names.
    """

    name = GatewayName.APNS
    reasons = Reasons(VENDOR)

    def __init__(self, script=None, room=100_000):
        self.script = script or accept_all
        self.batches = []
        self.sent = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.hangs = lambda batch: True
        self.room_rows = room
        self.in_flight = self.in_flight_max = 0

    async def start(self):
        pass

    async def stop(self, drain_s):
        pass

    def room(self, route, credential_id, lane):
        return self.room_rows

    def drop_credential(self, credential_id):
        pass

    async def send(self, batch):
        self.batches.append(batch)
        self.in_flight += len(batch)
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        notifications = np.broadcast_to(batch.notifications, len(batch))
        self.sent.update(zip(notifications.tolist(), batch.ids.tolist(), strict=True))
        # All of it is on the wire: whoever cancels this, the outcomes come.
        await asyncio.shield(self._answer(batch))

    async def _answer(self, batch):
        if self.hangs(batch):
            await self.gate.wait()
        await asyncio.sleep(0)
        self.script(batch)
        self.in_flight -= len(batch)

    def devices(self, notification):
        return sorted(device for (each, device) in self.sent if each == notification)


def accept_all(batch):
    batch.outcomes[:] = ACCEPTED.code


class MemorySettlements:
    """Settlements in memory, with the checks that the real table makes: nothing is settled twice."""

    def __init__(self):
        self.rows = {}
        self.finished = []
        self.retired = []
        self.tried = defaultdict(Devices)
        self.down = False
        self.disowned = set()
        self.commits = 0

    async def attempted(self, tried, node_id):
        if self.down:
            raise UnavailableError("down")
        for notification, devices in tried:
            if notification not in self.disowned:
                self.tried[notification] |= devices
        return frozenset(self.disowned & {notification for notification, _ in tried})

    async def settle(self, settlement, node_id):
        if self.down:
            raise UnavailableError("down")
        await asyncio.sleep(0)
        self.commits += 1
        columns = (settlement.notifications, settlement.devices, settlement.gateways, settlement.codes)
        for notification, device, gateway, code in zip(*(each.tolist() for each in columns), strict=True):
            self._put(notification, device, gateway, code)
        for delta in settlement.deltas:
            for device in delta.devices:
                assert device >> 20 == delta.part
                self._put(delta.run, device, delta.gateway, delta.code)
        self.retired += settlement.retired
        self.finished += settlement.finished
        refused = self.disowned & {int(each) for each in settlement.notifications}
        return Committed(retired=None, refused=sorted(refused))

    def _put(self, notification, device, gateway, code):
        assert (notification, device) not in self.rows, "settled twice"
        self.rows[notification, device] = (gateway, code)

    def codes(self, notification):
        return Counter(code for (each, _), (_, code) in self.rows.items() if each == notification)


class OneCredential:
    """A keyring with one credential for everything but the bundles in `without`; `id` None: none at all."""

    def __init__(self, credential_id=7):
        self.id = credential_id
        self.without = set()
        self.secrets = {}
        self.paused = {}
        self.pauses = []

    def find(self, route):
        return None if route.bundle in self.without else self.id

    def secret(self, credential_id):
        return self.secrets.setdefault(credential_id, object()) if credential_id == self.id else None

    def state(self, credential_id, bundle=None):
        if credential_id != self.id:
            return None
        paused = self.paused.get((credential_id, None)) or self.paused.get((credential_id, bundle))
        return CredentialState.PAUSED if paused else CredentialState.ACTIVE

    async def pause(self, credential_id, reason, bundle=None, *, secret=None):
        self.paused[credential_id, bundle] = True
        self.pauses.append((credential_id, reason, bundle))
