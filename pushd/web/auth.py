"""Keys: from the Authorization header to a known key, with a brake on guessing."""

from __future__ import annotations

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from pushd.errors import TooManyRequestsError, UnauthorizedError
from pushd.model.app import Key
from pushd.web.incoming import Incoming
from pushd.web.proxies import network_of

WINDOW_S = 60.0
ADDRESSES_MAX = 65_536
"""Addresses whose failures are remembered; past it the oldest are forgotten first."""
KNOWN_MAX = 65_536
"""Keys remembered as once good, by digest."""
SECRET_CHARS_MAX = 256


class Keys(Protocol):
    """Where keys are known; `store.keys`. It compares SHA-256 digests, so that time tells nothing of a key."""

    async def authenticate(self, secret: str, digest: bytes) -> Key | None:
        """The key that has this secret, of which `digest` is SHA-256, and is not revoked."""


class Authenticator:
    """Finds the key of a request.

    An address with too many failures in a minute gets 429 for whatever it tries, save for keys that have been good in
    this process before: a guesser behind the same address translation must not lock a producer out, and every other
    attempt is refused before it costs a look-up.
    """

    def __init__(self, keys: Keys, failures_max: int, clock: Callable[[], float] = monotonic) -> None:
        self._keys = keys
        self._failures_max = failures_max
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def key(self, incoming: Incoming) -> Key:
        """The key; UnauthorizedError without a known one, TooManyRequestsError after too many tries."""
        return await self.known(_secret(incoming.headers.get("Authorization", "")), incoming)

    async def known(self, secret: str, incoming: Incoming) -> Key:
        """The key that has this secret, wherever in the request it stood; errors as those of `key`."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        if digest not in self._known:
            self._refuse_if_braked(incoming.client.address)
        key = await self._keys.authenticate(secret, digest) if secret else None
        if key is None:
            self._known.pop(digest, None)
            self._count(incoming.client.address)
            raise UnauthorizedError("The API key is not known" if secret else "Send an API key: Authorization: Bearer")
        if digest not in self._known:
            self._known[digest] = None
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        incoming.caller = key.hint
        return key

    def _refuse_if_braked(self, address: str) -> None:
        began, count = self._failures.get(network_of(address), (0.0, 0)) if self._failures else (0.0, 0)
        if count >= self._failures_max and (left := began + WINDOW_S - self._clock()) > 0:
            raise TooManyRequestsError("Too many requests without a known key", retry_after_s=left)

    def _count(self, address: str) -> None:
        network, now = network_of(address), self._clock()
        began, count = self._failures.pop(network, (now, 0))
        self._failures[network] = (began, count + 1) if now - began < WINDOW_S else (now, 1)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)


def basic(incoming: Incoming) -> tuple[str, str]:
    """User and password of Basic authentication (RFC 7617); empty where there are none."""
    scheme, _, value = incoming.headers.get("Authorization", "").partition(" ")
    return _pair(value.strip()) if scheme.lower() == "basic" else ("", "")


def _pair(value: str) -> tuple[str, str]:
    try:
        user, _, password = binascii.a2b_base64(value, strict_mode=True).decode().partition(":")
    except ValueError:  # not of that alphabet, or no text
        return "", ""
    return user, password


def _secret(header: str) -> str:
    """The key in an Authorization header, empty when there is none: a bearer token, or either half of Basic."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        user, password = _pair(value)
        value = password if password.startswith("pushd_") else user or password
    elif scheme.lower() != "bearer":
        return ""
    return value if len(value) <= SECRET_CHARS_MAX else ""
