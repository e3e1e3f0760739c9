"""APNs certificates: what a p12 file holds, which topics and environments it serves, and until when (A-20 to A-25).

Theory. A p12 (RFC 7292) is opened by the `cryptography` package, old encryptions (RC2, 3DES) and new (AES) alike. Its
frame is read here first, for a file can ask for any number of key derivation rounds, and somebody else wrote it.

Rules: topics are those of Apple's extension, else of the subject's UID, which carries a bundle id, a website push id or
an MDM topic. A certificate that says nothing of environments is taken for both. No message quotes key material.

Sources: Apple, "Establishing a certificate-based connection to APNs" and its Worldwide Developer Relations CPS, section
on push certificates (extensions 1.2.840.113635.100.6.3); RFC 7292; X.690 sections 8.1 and 8.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from protocols.apns import PUSH_TYPES

P12_BYTES_MAX = 65_536
"""A key, its certificate and a chain take a few kilobytes."""

ROUNDS_MAX = 2_000_000
"""Rounds of key derivation in a whole file, as far as its frame tells: tools write 1 to 600,000 three times."""

_DEPTH_MAX = 24
_SANDBOX = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
_PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
_VOIP = x509.ObjectIdentifier("1.2.840.113635.100.6.3.4")
_TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")

_INTEGER, _OCTETS, _OCTETS_IN_PARTS = 0x02, 0x04, 0x24
_TEXTS = frozenset({0x0C, 0x13, 0x16})
"""UTF8String, PrintableString, IA5String."""


class P12Error(ValueError):
    """A p12 that cannot be used; `password` says whether the password may be at fault."""

    def __init__(self, reason: str, *, password: bool = False) -> None:
        super().__init__(reason)
        self.password = password


class ApnsIdentity(NamedTuple):
    """A certificate with its key, ready for TLS."""

    certificates: bytes
    """PEM: the certificate itself, then its chain."""
    private_key: bytes
    """PEM, PKCS#8, in the clear: for memory alone."""
    topics: tuple[str, ...]
    sandbox: bool
    production: bool
    not_after: float
    """UNIX seconds."""
    fingerprint: str
    """SHA-256 in hexadecimal."""
    subject: str

    @property
    def bundles(self) -> tuple[str, ...]:
        """The bundle ids of its topics, without the suffixes of push types."""
        return tuple(dict.fromkeys(_bundle(topic) for topic in self.topics))

    def __repr__(self) -> str:
        return f"ApnsIdentity(subject={self.subject!r}, fingerprint={self.fingerprint!r})"


def open_p12(data: bytes, password: str) -> ApnsIdentity:
    """The identity in a p12; P12Error says what is wrong with it."""
    key, found = _load(data, password)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise P12Error("the file holds no private key: export the certificate together with its key")
    public = _public_bytes(key.public_key())
    own = next((each for each in found if _public_bytes(each.public_key()) == public), None)
    if own is None:
        raise P12Error("the file holds no certificate for its private key")
    topics = topics_of(own)
    if not topics:
        raise P12Error("the certificate names no topic: it is no push certificate of Apple's")
    chain = [own, *(each for each in found if each is not own)]
    sandbox, production = _marked(own, _SANDBOX), _marked(own, _PRODUCTION)
    common = own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ApnsIdentity(
        certificates=b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        topics=topics,
        sandbox=sandbox or not production,
        production=production or not sandbox,
        not_after=own.not_valid_after_utc.timestamp(),
        fingerprint=own.fingerprint(hashes.SHA256()).hex(),
        subject=str(common[0].value) if common else "",
    )


def topics_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The topics that a certificate may push to, in its order (A-21)."""
    topics: list[str] = []
    for oid in (_TOPICS, _VOIP):
        topics += _listed(certificate, oid)
    if not topics:
        topics = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
    return tuple(dict.fromkeys(topic for topic in topics if _may_be_topic(topic)))


def _load(data: bytes, password: str) -> tuple[object, list[x509.Certificate]]:
    """The private key and every certificate of a p12."""
    if len(data) > P12_BYTES_MAX:
        raise P12Error(f"the file has {len(data)} bytes: at most {P12_BYTES_MAX} are possible")
    try:
        rounds = sum(_rounds(_tree(data)))
    except ValueError as error:
        raise P12Error(f"the file is no p12: {error}") from None
    if rounds > ROUNDS_MAX:
        raise P12Error(f"the file asks for {rounds} rounds of key derivation: at most {ROUNDS_MAX} are carried out")
    # An empty password and none are two things to PKCS #12, and one to people.
    opened = None
    for word in (password.encode(),) if password else (b"", None):
        try:
            opened = pkcs12.load_pkcs12(data, word)
        except (ValueError, TypeError):
            continue
        break
    if opened is None:
        raise P12Error("the password does not open the file, or the file is damaged", password=True)
    first = [] if opened.cert is None else [opened.cert.certificate]
    return opened.key, [*first, *(each.certificate for each in opened.additional_certs)]


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _marked(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bool:
    return any(extension.oid == oid for extension in certificate.extensions)


def _listed(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> Iterator[str]:
    """The texts at the top of an extension's list; below each, Apple lists the services by name."""
    for extension in certificate.extensions:
        if extension.oid == oid and isinstance(extension.value, x509.UnrecognizedExtension):
            try:
                tree = _tree(extension.value.value)
            except ValueError:
                continue
            for node in tree:
                for child in node.children or ():
                    if child.tag in _TEXTS:
                        yield child.content.decode("utf-8", "replace")


def _may_be_topic(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isascii() and text.isprintable() and " " not in text


def _bundle(topic: str) -> str:
    for rule in PUSH_TYPES.values():
        if rule.topic_suffix and topic.endswith(rule.topic_suffix):
            return topic.removesuffix(rule.topic_suffix)
    return topic


class _Node(NamedTuple):
    """One element of BER: its tag octet, its content, and what that is made of where the tag says so."""

    tag: int
    content: bytes
    children: list[_Node] | None


def _tree(data: bytes) -> list[_Node]:
    """The elements of BER data; ValueError for what is none."""
    nodes, _ = _elements(data, 0, len(data), 0, ended=False)
    return nodes


def _elements(data: bytes, at: int, end: int, depth: int, *, ended: bool) -> tuple[list[_Node], int]:
    """Elements up to `end`, or where `ended`, up to the end-of-contents octets; and what lies after them."""
    if depth > _DEPTH_MAX:
        raise ValueError("its elements are nested too deep")
    nodes: list[_Node] = []
    while at < end:
        if ended and data[at : at + 2] == b"\x00\x00":
            return nodes, at + 2
        if data[at] & 0x1F == 0x1F or at + 1 >= end:
            raise ValueError("it has an element that none has")
        tag, length, begin = data[at], data[at + 1], at + 2
        if length == 0x80:  # of indefinite length (X.690 section 8.1.3.6)
            children, at = _elements(data, begin, end, depth + 1, ended=True)
            nodes.append(_Node(tag, data[begin : at - 2], children))
            continue
        if length > 0x80:
            octets = length & 0x7F
            length, begin = int.from_bytes(data[begin : begin + octets], "big"), begin + octets
        at = begin + length
        if at > end:
            raise ValueError("it is cut off")
        inner = _elements(data, begin, at, depth + 1, ended=False)[0] if tag & 0x20 else None
        nodes.append(_Node(tag, data[begin:at], inner))
    if ended:
        raise ValueError("it is cut off")
    return nodes, at


def _rounds(nodes: Sequence[_Node], depth: int = 0) -> Iterator[int]:
    """The numbers that follow a salt: rounds of PBKDF2, of PKCS #12's own derivation, and costs of scrypt."""
    for node, after in zip_longest(nodes, nodes[1:]):
        if node.children is not None and node.tag != _OCTETS_IN_PARTS:
            yield from _rounds(node.children, depth)
            continue
        if node.tag not in (_OCTETS, _OCTETS_IN_PARTS):
            continue
        content = node.content
        if node.tag == _OCTETS_IN_PARTS:
            content = b"".join(part.content for part in node.children or ())
        if after is not None and after.tag == _INTEGER:
            yield max(0, int.from_bytes(after.content, "big", signed=True))
        if content[:1] == b"\x30" and depth < _DEPTH_MAX:
            try:
                inside = _tree(content)
            except ValueError:
                continue  # encrypted octets that happen to begin like a sequence
            yield from _rounds(inside, depth + 1)
