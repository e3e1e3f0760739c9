"""Channel management at Apple: broadcast channels created, read, listed and deleted over HTTP/2 (A-04, A-38).

These are calls of people and servers, a few a day: one at a time for each credential, without the links of pushes.
A credential that Apple refuses here is told to who asked, and goes on sending: it may lack this one capability.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol

from protocols import apns, apns_channels
from protocols.apns import Verdict
from pushd.clock import Clock
from pushd.config.apns import ApnsConfig
from pushd.config.transport import TransportConfig
from pushd.credentials.apns_tokens import TokenMint
from pushd.errors import ConflictError, PushdError, UnavailableError
from pushd.gateways.retry_after import retry_after_s
from pushd.model.credential import Secret
from pushd.model.device import Environment
from pushd.transport.calls import Call, Caller, CallError, Reply
from pushd.transport.dial import Dialer
from pushd.transport.resolve import Resolver

CALLERS_MAX = 1_000
"""Credentials whose connections are remembered."""
CREATED, OK, NO_CONTENT = 201, 200, 204
UNKNOWN = frozenset({"BadChannelId", "ChannelNotRegistered"})
"""Reasons that mean: there is no such channel."""
FULL = "CannotCreateChannelConfig"

_LATER = frozenset(
    {Verdict.RETRY, Verdict.RETRY_NEW_CONNECTION, Verdict.JWT_UPDATES, Verdict.JWT_EXPIRED, Verdict.DEVICE_THROTTLED}
)


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class Login(NamedTuple):
    """How connections prove who they are: by a certificate in their context, or by tokens."""

    context: ssl.SSLContext
    mint: TokenMint | None


class Place(NamedTuple):
    """Where channels are: a bundle id in an environment, seen with a credential."""

    credential_id: int
    environment: Environment
    bundle: str


class ChannelManagement:
    """Asks Apple's management hosts, or what the configuration names in their place.

    Every method raises ConflictError, with Apple's reason, for what Apple refuses, and UnavailableError while it cannot
    be asked.
    """

    def __init__(
        self,
        config: ApnsConfig,
        transport: TransportConfig,
        secrets: Secrets,
        login: Callable[[Secret | None], Login | None],
        clock: Clock,
        resolver: Resolver,
    ) -> None:
        self._config = config
        self._transport = transport
        self._secrets = secrets
        self._login = login
        self._clock = clock
        self._resolver = resolver
        self._callers: dict[tuple[Environment, int], tuple[Caller, Login]] = {}
        self._stopped = False

    async def create(self, place: Place, *, stores: bool) -> str:
        """The id of a new channel, which keeps its most recent message for absent devices where it `stores`."""
        body = apns_channels.creation(stores=stores)
        reply = await self._ask(place, Call("POST", _text(apns_channels.channels_path(place.bundle)), body=body))
        if reply.status != CREATED:
            raise self._refusal(place, reply)
        try:
            return apns_channels.check_channel_id(reply.headers.get(apns_channels.CHANNEL_ID, ""))
        except ValueError:
            raise UnavailableError("Apple's answer names no channel") from None

    async def read(self, place: Place, channel_id: str) -> bool | None:
        """Whether a channel stores its most recent message; None where Apple has no such channel."""
        reply = await self._ask(place, self._about("GET", place, channel_id))
        if reply.status == OK:
            try:
                return apns_channels.parse_channel(reply.body)
            except ValueError as error:
                raise UnavailableError(f"Apple's answer cannot be read: {error}") from None
        if _reason(reply) in UNKNOWN:
            return None
        raise self._refusal(place, reply)

    async def list(self, place: Place) -> list[str]:
        """The ids of all channels of the bundle id."""
        reply = await self._ask(place, Call("GET", _text(apns_channels.all_channels_path(place.bundle))))
        if reply.status != OK:
            raise self._refusal(place, reply)
        try:
            return apns_channels.parse_channels(reply.body)
        except ValueError as error:
            raise UnavailableError(f"Apple's answer cannot be read: {error}") from None

    async def delete(self, place: Place, channel_id: str) -> bool:
        """Whether there was such a channel, which is gone now."""
        reply = await self._ask(place, self._about("DELETE", place, channel_id))
        if reply.status in (NO_CONTENT, OK):
            return True
        if _reason(reply) in UNKNOWN:
            return False
        raise self._refusal(place, reply)

    def drop_credential(self, credential_id: int) -> None:
        """Closes the connections of a credential; later calls use what it then is (A-06)."""
        for key in [key for key in self._callers if key[1] == credential_id]:
            self._callers.pop(key)[0].stop()

    def stop(self) -> None:
        """Asks nothing more."""
        self._stopped = True
        for caller, _ in self._callers.values():
            caller.stop()
        self._callers.clear()

    def _about(self, method: str, place: Place, channel_id: str) -> Call:
        headers = ((apns_channels.CHANNEL_ID, channel_id),)
        return Call(method, _text(apns_channels.channels_path(place.bundle)), headers)

    async def _ask(self, place: Place, call: Call) -> Reply:
        """The answer; where Apple calls the provider token expired, that to a newer one, if there can be one (A-16)."""
        caller, login = self._caller(place)
        if login.mint is None:
            return await self._call(caller, call)
        pinned = login.mint.pin()
        reply = await self._call(caller, _shown(call, pinned.authorization))
        if _verdict(reply) is not Verdict.JWT_EXPIRED or not login.mint.refuse(pinned):
            return reply
        self.drop_credential(place.credential_id)
        caller, _ = self._caller(place)
        return await self._call(caller, _shown(call, login.mint.pin().authorization))

    async def _call(self, caller: Caller, call: Call) -> Reply:
        try:
            return await caller.ask(call)
        except CallError as error:
            raise UnavailableError(f"Apple's channel management gave no answer: {error.kind}") from None

    def _caller(self, place: Place) -> tuple[Caller, Login]:
        key = place.environment, place.credential_id
        known = self._callers.get(key)
        if known is not None:
            return known
        try:
            login = None if self._stopped else self._login(self._secrets.secret(place.credential_id))
        except (ValueError, ssl.SSLError):
            login = None
        if login is None:
            raise ConflictError("The credential for this bundle cannot be used")
        if len(self._callers) >= CALLERS_MAX:
            self._callers.pop(next(iter(self._callers)))[0].stop()
        caller = Caller(
            self._dialer(place.environment, login),
            timeout_s=self._config.management_timeout_s,
            idle_close_s=self._config.management_idle_close_s,
            answer_bytes_max=self._config.management_answer_bytes_max,
        )
        self._callers[key] = caller, login
        return caller, login

    def _dialer(self, environment: Environment, login: Login) -> Dialer:
        config = self._config
        production = environment is Environment.PRODUCTION
        host = config.production_management_host if production else config.sandbox_management_host
        port = config.production_management_port if production else config.sandbox_management_port
        return Dialer(host, port, login.context, self._resolver, self._transport)

    def _refusal(self, place: Place, reply: Reply) -> PushdError:
        """What an answer that is no success means to who asked."""
        reason = _reason(reply) or f"status_{reply.status}"
        if _verdict(reply) in _LATER:
            headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
            wait_s = retry_after_s(headers, self._clock.now(), self._config.retry_after_max_s)
            return UnavailableError(f"Apple cannot do it now: {reason}", retry_after_s=wait_s)
        if reason == FULL:
            most = apns_channels.CHANNELS_MAX
            detail = f"{place.bundle} has the {most:,} channels that Apple allows in one environment"
            return ConflictError(detail, extra={"reason": reason, "limit": most})
        detail = _WORDS.get(reason, f"Apple refuses it: {reason}")
        return ConflictError(detail, extra={"reason": reason})


_WORDS = {
    "FeatureNotEnabled": "Broadcasts are not enabled for this bundle id: add the capability in Apple's portal",
    "TopicDisallowed": "Apple wants the app's own bundle id here, without the suffix of a push type",
    "TopicMismatch": "The credential for this bundle is not good for it, says Apple",
}


def _shown(call: Call, authorization: bytes) -> Call:
    return call._replace(headers=(("authorization", authorization.decode()), *call.headers))


def _reason(reply: Reply) -> str:
    return apns.parse_error(reply.body)[0]


def _verdict(reply: Reply) -> Verdict:
    return apns.REASONS[apns.lookup(reply.status, _reason(reply))].verdict


def _text(path: bytes) -> str:
    return path.decode("ascii")
