"""Provider tokens: which are genuine, and what one connection may do with them.

Rules kept here (protocols.md A-05, A-10, A-12, A-16):
1. A token is a JWT, ES256, `kid` known, `iss` that key's team, `iat` whole seconds. A verdict on the signature holds
   for good, so it is kept by token text; age is judged anew each time.
2. The first valid token binds a connection to its team and key family; what does not fit that is refused.
3. A connection may change its token once in twenty minutes.
4. A connection that showed an expired token stays unusable, whatever it shows afterwards.
5. A certificate of the simulator's CA, shown in TLS, stands for a token (A-20): its environments and topics bind the
   connection, and an `authorization` header is not looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from pushd.clock import Clock
from pushd.model.device import Environment
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.identity import MARKS, TOPICS, Identity, ProviderKey
from pushd.simulator.reasons import Rejection, rejection

TOKENS_KEPT = 4_096
"""Verdicts kept by token text before all are forgotten."""
JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
BEARER = re.compile(rb"[Bb]earer +(.*)", re.DOTALL)
"""Apple documents the lower-case word and takes the capital too (A-10)."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    iat: int


class ProviderToken(NamedTuple):
    """A genuine token: whose key signed it, and when, in seconds since the epoch."""

    key: ProviderKey
    issued_at: int


class ProviderTokens:
    """Every key of the simulator, and the verdicts on tokens seen so far."""

    def __init__(self, identity: Identity, behaviour: Behaviour, clock: Clock) -> None:
        self.identity = identity
        self.behaviour = behaviour
        self.clock = clock
        self.revoked: set[str] = set()
        """Key ids, and SHA-256 fingerprints of certificates, that Apple's portal would show as revoked."""
        self.topics: dict[str, frozenset[str]] = {}
        """Bundle ids by team id, where a team's are limited; connections read it when they are bound (A-05)."""
        self._verdicts: dict[bytes, ProviderToken | None] = {}

    def read(self, text: bytes) -> ProviderToken | None:
        """The token that this JWT is, or nothing when it is not genuine."""
        if text not in self._verdicts:
            if len(self._verdicts) >= TOKENS_KEPT:
                self._verdicts.clear()
            self._verdicts[text] = self._verify(text)
        token = self._verdicts[text]
        return None if token is None or token.key.key_id in self.revoked else token

    def _verify(self, text: bytes) -> ProviderToken | None:
        if not JWT.fullmatch(text):
            return None
        signed, _, signature = text.rpartition(b".")
        header, _, claims = signed.partition(b".")
        try:
            head = msgspec.json.decode(_unbase64(header), type=_Header)
            body = msgspec.json.decode(_unbase64(claims), type=_Claims)
            raw = _unbase64(signature)
        except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError):
            return None
        key = self.identity.keys.get(head.kid)
        if head.alg != "ES256" or key is None or body.iss != key.team_id or len(raw) != 64:
            return None
        # RFC 7518 section 3.4: R and S, 32 bytes each; the library wants them as DER.
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            self.identity.public_keys[head.kid].verify(der, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return None
        return ProviderToken(key, body.iat)


class Session:
    """What one connection has shown of itself."""

    __slots__ = (
        "_authorization",
        "_changed_at",
        "_environment",
        "_expired",
        "_good_until",
        "_tokens",
        "certificate",
        "changes",
        "key",
        "topics",
    )

    def __init__(self, tokens: ProviderTokens, environment: Environment) -> None:
        self._tokens = tokens
        self._environment = environment
        self._authorization: bytes | None = None
        self._changed_at = 0.0
        self._good_until = 0.0
        self._expired = False
        self.changes = 0
        """Different tokens that were accepted."""
        self.certificate: Certified | None = None
        """What TLS showed of the client."""
        self.key: ProviderKey | None = None
        """The key that the first valid token bound this connection to."""
        self.topics: frozenset[str] | None = None
        """Bundle ids, or topics of a certificate, this connection may push to; nothing: any."""

    def show(self, certificate: bytes) -> None:
        """Binds the connection to a certificate, DER, that TLS has verified."""
        identity = open_certificate(certificate)
        self.certificate = identity
        self.topics = frozenset(identity.topics)

    def _judge_certificate(self, identity: Certified) -> Rejection | None:
        if identity.fingerprint in self._tokens.revoked:
            return rejection("BadCertificate")
        if self._environment not in identity.environments:
            return rejection("BadCertificateEnvironment")
        return None

    def authorize(self, authorization: bytes | None) -> Rejection | None:
        """Why this `authorization` header is refused, or nothing."""
        if self.certificate is not None:
            return self._judge_certificate(self.certificate)
        if (
            authorization is not None
            and authorization == self._authorization
            and self._tokens.clock.now() < self._good_until
            and self.key is not None
            and self.key.key_id not in self._tokens.revoked
        ):
            return None
        return self._judge(authorization)

    def _judge(self, authorization: bytes | None) -> Rejection | None:
        match = BEARER.fullmatch(authorization) if authorization is not None else None
        if match is None or not match[1]:
            return rejection("MissingProviderToken")
        token = self._tokens.read(match[1])
        if token is None:
            return rejection("InvalidProviderToken")
        behaviour, now = self._tokens.behaviour, self._tokens.clock.now()
        if token.issued_at > now + behaviour.token_ahead_max_s:
            return rejection("InvalidProviderToken")
        if self._expired or now >= token.issued_at + behaviour.token_age_max_s:
            self._expired = True
            return rejection("ExpiredProviderToken")
        if self._environment not in token.key.environments:
            return rejection("BadEnvironmentKeyIdInToken")
        return self._bind(authorization, token)

    def _bind(self, authorization: bytes | None, token: ProviderToken) -> Rejection | None:
        bound, now = self.key, self._tokens.clock.monotonic()
        if bound is not None:
            if bound.team_id != token.key.team_id:
                return rejection("InvalidProviderToken")
            if not _same_family(bound, token.key):
                return rejection("UnrelatedKeyIdInToken")
            if (
                authorization != self._authorization
                and now - self._changed_at < self._tokens.behaviour.token_update_min_s
            ):
                return rejection("TooManyProviderTokenUpdates")
        if authorization != self._authorization:
            self._changed_at = now
            self.changes += 1
            self._authorization = authorization
        if bound is None:
            self.topics = self._tokens.topics.get(token.key.team_id)
        self.key = token.key
        if token.key.topics:
            self.topics = frozenset(token.key.topics)
        self._good_until = token.issued_at + self._tokens.behaviour.token_age_max_s
        return None


class Certified(NamedTuple):
    """What a push certificate says."""

    topics: tuple[str, ...]
    environments: tuple[Environment, ...]
    fingerprint: str


def open_certificate(der: bytes) -> Certified:
    """What a push certificate in DER says."""
    certificate = x509.load_der_x509_certificate(der)
    listed = next((each.value for each in certificate.extensions if each.oid == TOPICS), None)
    topics = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
    if isinstance(listed, x509.UnrecognizedExtension):
        topics = [text for text in _texts(listed.value) if text != "app"]
    marked = {each.oid for each in certificate.extensions}
    environments = tuple(environment for environment, oid in MARKS.items() if oid in marked)
    return Certified(tuple(topics), environments, certificate.fingerprint(hashes.SHA256()).hex())


def _texts(der: bytes) -> Iterator[str]:
    """The UTF8Strings (tag 12) in a list of DER, whose own tag and length are no such tag."""
    at = der.find(b"\x0c")
    while at >= 0:
        end = at + 2 + der[at + 1]
        yield der[at + 2 : end].decode()
        at = der.find(b"\x0c", end)


def _same_family(first: ProviderKey, second: ProviderKey) -> bool:
    if first.key_id == second.key_id:
        return True
    if first.topics and second.topics:
        return bool(first.related) and first.related == second.related
    return not first.topics and not second.topics


def _unbase64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
