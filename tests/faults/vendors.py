"""Every vendor at once, in the test's own process: APNs, FCM, a push service, HMS, and one history of all."""

import base64
import time

import orjson

from protocols.apns import apns_id_parts
from pushd.simulator.simulator import Simulator
from pushd.simulator.vendors import Vendors
from tests.faults.gateway import BUNDLE, FarSide, apns_token
from tests.faults.history import KEY_DIGITS, Pushes

KINDS = ("apns", "fcm", "webpush", "hms")
"""What every four devices in a row are."""
PLATFORMS = {"apns": "ios", "fcm": "android", "webpush": "web", "hms": "huawei"}


class EveryVendor(FarSide):
    """The local vendors with the face of `Gateway`. A device is known by its number, whatever its address is."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._numbers = {}
        """Devices by address."""
        self._noted = []
        """(ms, notification, device) of what came to others than Apple."""
        self._public_key = b""
        others = simulator.others
        others.fcm.take = self._noting(others.fcm.take, _of_fcm)
        others.push.take = self._noting(others.push.take, _of_push(others.push))
        others.hms._judge = self._noting(others.hms._judge, _of_hms)
        identity, listing = simulator.identity, others.listing()
        (key,) = identity.keys.values()
        hms = {name: listing["hms"][name] for name in ("client_id", "client_secret")}
        account = {name: text for name, text in others.fcm.key_file.items() if name != "type"}
        self.secrets = [
            apns_token(key.team_id, key.key_id, identity.pem(key.key_id)),
            {"type": "service_account", **account},
            {"type": "hms_client", **hms},
            {"type": "vapid", "subject": "mailto:faults@example.com"},
        ]

    @classmethod
    async def start(cls, place):
        """All of them, with their state in `place`."""
        simulator = Simulator(place / "vendors", others=lambda identity, clock: Vendors(identity, clock=clock))
        await simulator.start()
        return cls(simulator)

    async def stop(self):
        await self._simulator.stop()

    # What the daemon is told -----------------------------------------------------------------------------------------

    @property
    def settings(self):
        """Settings by dotted name, as the simulator gives them for the environment."""
        known = self._simulator._environ() | self._simulator.others.environ()
        return {name.removeprefix("PUSHD__").lower().replace("__", "."): text for name, text in known.items()}

    def ends(self):
        """Every listener that the daemon talks to. HMS has one for sends and sign-on."""
        others = self._simulator.others
        ports = {
            "apns": self._simulator.port,
            "fcm": others.fcm.port,
            "oauth": others.fcm.oauth_port,
            "webpush": others.push.port,
            "hms": others.hms.port,
        }
        return {name: (self._simulator.host, port) for name, port in ports.items()}

    def through(self, ports):
        """They call themselves what they are reached at: subscriptions hold the push service's port."""
        others = self._simulator.others
        self._simulator.port = ports["apns"]
        others.fcm.port, others.fcm.oauth_port = ports["fcm"], ports["oauth"]
        others.push.port, others.hms.port = ports["webpush"], ports["hms"]
        return self.settings

    def learn(self, credential):
        """Browsers subscribe with the key of the project."""
        if text := credential["summary"].get("public_key"):
            self._public_key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    def token(self, number, dice):
        """The name of a device in promises: its number, in as many digits as the checker compares."""
        return f"{number:0{KEY_DIGITS}x}"

    def address(self, number, token):
        """Where a device is reached."""
        kind = KINDS[number % len(KINDS)]
        told = {"kind": kind, "platform": PLATFORMS[kind]}
        if kind == "webpush":
            subscriber = self._simulator.others.push.subscribe(self._public_key, name=f"browser-{token}")
            self._numbers[subscriber.name] = number
            return told | {"subscription": subscriber.to_json()}
        address = f"cGVhcnM{token}:APA91b{token * 8}" if kind == "fcm" else token * 4
        self._numbers[address] = number
        return told | {"bundle": BUNDLE, "token": address}

    # What arrived ----------------------------------------------------------------------------------------------------

    def _noting(self, take, parts):
        def noting(*arguments):
            result = take(*arguments)
            now = int(time.time() * 1000)
            self._noted += [(now, number, self._numbers[address]) for number, address in parts(arguments, result)]
            return result

        return noting

    async def total(self):
        """How many pushes arrived so far."""
        return self._simulator.record.total + len(self._noted)

    async def pushes(self):
        """Everything that arrived anywhere; what a client must not do has not been done."""
        violations = {name: counts["violations"] for name, counts in self._simulator.others.counts().items()}
        violations["apns"] = self._simulator.record.violation_kinds
        assert not any(count for kinds in violations.values() for count in kinds.values()), violations
        return Pushes.of_devices(sorted([*self._apple(), *((*each, 200) for each in self._noted)]))

    def _apple(self):
        for push in self._simulator.record.pushes(None, since=0, limit=1 << 30):
            notification, _ = apns_id_parts(push.apns_id)
            yield push.at_ms, notification, self._numbers[push.token], push.status

    def kinds(self):
        """How many pushes arrived of each kind of device."""
        numbers = [number for *_, number in self._noted] + [number for _, _, number, _ in self._apple()]
        return {kind: sum(number % len(KINDS) == place for number in numbers) for place, kind in enumerate(KINDS)}


def _of_fcm(arguments, _):
    """(notification, address) of a message that was taken for sending."""
    message, _ = arguments
    return [] if message.dry else [(orjson.loads(message.content["data"]["pushd"])["id"], message.target)]


def _of_push(service):
    """The same of a push: what the browser read of it."""
    return lambda arguments, _: [(orjson.loads(service.pushes[-1].text)["pushd"]["id"], arguments[0])]


def _of_hms(arguments, answer):
    """The same of all tokens of a request."""
    (body,) = arguments
    if answer.status != 200 or body.get("validate_only"):
        return []
    notification = orjson.loads(body["message"]["data"])["pushd"]["id"]
    return [(notification, token) for token in body["message"]["token"]]
