"""Who the simulator is: a CA, a server certificate and provider keys, made once in a state directory."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Meta, Struct

from pushd.errors import ConfigError
from pushd.model.device import Environment

SERVER_NAMES = ("localhost", "127.0.0.1", "::1", "api.push.apple.com", "api.sandbox.push.apple.com")
"""Names that the server certificate always carries; Apple's own too, for clients that insist on them."""
CA_FILE, CA_KEY_FILE, SERVER_FILE = "ca.pem", "ca-key.pem", "server.pem"
MANIFEST_FILE = "simulator.json"
DAYS_VALID = 3_650
RENEW_BEFORE = dt.timedelta(days=30)

AppleId = Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")]


class ProviderKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider key (p8) as Apple's portal describes it."""

    team_id: AppleId = "SIMTEAM001"
    key_id: AppleId = "SIMKEY0001"
    environments: tuple[Environment, ...] = (Environment.PRODUCTION, Environment.SANDBOX)
    """Older keys serve both; newer ones one (A-18)."""
    topics: tuple[str, ...] = ()
    """Bundle ids of a topic-specific key; empty: team-scoped."""
    related: str = ""
    """Topic-specific keys with the same word here may share a connection (A-05)."""

    @property
    def file(self) -> str:
        """The name under which Apple's portal hands the key out."""
        return f"AuthKey_{self.key_id}.p8"


class Manifest(Struct, frozen=True, kw_only=True):
    """What `simulator.json` says: where a running simulator listens, whom to trust, which keys it knows."""

    host: str
    production_port: int
    sandbox_port: int
    control_port: int
    management_port: int = 0
    """Of channel management, production."""
    sandbox_management_port: int = 0
    ca_file: str
    pid: int
    keys: list[ProviderKey]
    key_files: dict[str, str]
    """Path of the p8 file by key id."""
    others: dict[str, dict[str, Any]] = {}
    """Further vendors, where they listen and what they know."""
    environ: dict[str, str] = {}
    """The settings with which a daemon sends here, as environment variables."""


class Identity:
    """The files of a state directory; what is missing is made, what is there is used again."""

    def __init__(self, directory: Path, keys: Sequence[ProviderKey] = (), names: Iterable[str] = ()) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.keys = {key.key_id: key for key in (*self._known_keys(), *keys)}
        if not self.keys:
            only = ProviderKey()
            self.keys = {only.key_id: only}
        self.public_keys = {key_id: self._provider_key(key).public_key() for key_id, key in self.keys.items()}
        ca_key, ca = self._authority()
        self._server(ca_key, ca, list(dict.fromkeys((*SERVER_NAMES, *names))))

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        return self.directory / CA_FILE

    def key_file(self, key_id: str) -> Path:
        """The p8 file of a provider key."""
        return self.directory / self.keys[key_id].file

    def pem(self, key_id: str) -> str:
        """The PKCS#8 PEM text of a provider key."""
        return self.key_file(key_id).read_text()

    def tls(self, alpn: Sequence[str] = ("h2",)) -> ssl.SSLContext:
        """A server context with TLS 1.2 as the floor that selects one of `alpn`, and takes certificates of its CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.directory / SERVER_FILE)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(self.ca_file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def p12(
        self,
        topics: Sequence[str],
        password: str = "",
        *,
        environments: Sequence[Environment] = tuple(Environment),
        days_valid: float = 365,
    ) -> bytes:
        """A p12 with a new push certificate for these topics, as Apple's portal and Keychain would make it."""
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        ca_key = _private_key(self.directory / CA_KEY_FILE)
        return push_certificate(ca_key, ca, topics, password, environments=environments, days_valid=days_valid)

    def write_manifest(
        self,
        *,
        host: str,
        production_port: int,
        sandbox_port: int,
        control_port: int,
        management_port: int = 0,
        sandbox_management_port: int = 0,
        others: Mapping[str, dict[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Manifest:
        """What was written to `simulator.json`."""
        manifest = Manifest(
            host=host,
            production_port=production_port,
            sandbox_port=sandbox_port,
            control_port=control_port,
            management_port=management_port,
            sandbox_management_port=sandbox_management_port,
            ca_file=str(self.ca_file),
            pid=os.getpid(),
            keys=list(self.keys.values()),
            key_files={key_id: str(self.key_file(key_id)) for key_id in self.keys},
            others=dict(others or {}),
            environ=dict(environ or {}),
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        scratch = self.directory / (MANIFEST_FILE + ".new")
        scratch.write_bytes(text + b"\n")
        scratch.replace(self.directory / MANIFEST_FILE)
        return manifest

    def _known_keys(self) -> list[ProviderKey]:
        path = self.directory / MANIFEST_FILE
        if not path.exists():
            return []
        try:
            return msgspec.json.decode(path.read_bytes(), type=Manifest).keys
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is not a simulator's manifest: {error}") from error

    def _provider_key(self, key: ProviderKey) -> ec.EllipticCurvePrivateKey:
        return _private_key(self.directory / key.file)

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key, path = _private_key(self.directory / CA_KEY_FILE), self.ca_file
        if path.exists():
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            if certificate.public_key() == key.public_key() and not _ends_soon(certificate):
                return key, certificate
        name = _name("pushd simulator CA")
        certificate = (
            _builder(name, name, key.public_key(), DAYS_VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate

    def _server(self, ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, names: list[str]) -> None:
        path = self.directory / SERVER_FILE
        if path.exists():
            served = x509.load_pem_x509_certificate(path.read_bytes())
            if _names(served) >= set(names) and served.issuer == ca.subject and not _ends_soon(served):
                try:
                    served.verify_directly_issued_by(ca)
                except (InvalidSignature, ValueError, TypeError):
                    pass
                else:
                    return
        write_private(path, issue(ca_key, ca, names))


def issue(
    ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, names: Sequence[str], days_valid: float = DAYS_VALID
) -> bytes:
    """PEM text of a new server certificate for these names and its key; negative days make one that has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(names[0]), ca.subject, key.public_key(), days_valid)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def push_certificate(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    topics: Sequence[str],
    password: str,
    *,
    environments: Sequence[Environment],
    days_valid: float,
) -> bytes:
    """A p12 with a push certificate that this CA has signed; negative days make one that has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.USER_ID, topics[0]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {topics[0]}"[:64]),
        ]
    )
    builder = _builder(subject, ca.subject, key.public_key(), days_valid).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True
    )
    for environment in environments:
        builder = builder.add_extension(x509.UnrecognizedExtension(MARKS[environment], b"\x05\x00"), critical=False)
    if len(topics) > 1:
        builder = builder.add_extension(x509.UnrecognizedExtension(TOPICS, _listed(topics)), critical=False)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"push", key, builder.sign(ca_key, hashes.SHA256()), [ca], encryption)


MARKS = {
    Environment.SANDBOX: x509.ObjectIdentifier("1.2.840.113635.100.6.3.1"),
    Environment.PRODUCTION: x509.ObjectIdentifier("1.2.840.113635.100.6.3.2"),
}
TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
"""Apple's extensions of push certificates."""


def _listed(topics: Sequence[str]) -> bytes:
    """Topics as Apple lists them in DER: each a text, followed by the names of its services."""
    services = _der(0x30, _der(0x0C, b"app"))
    return _der(0x30, b"".join(_der(0x0C, topic.encode()) + services for topic in topics))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes((tag, size) if size < 0x80 else (tag, 0x82, size >> 8, size & 0xFF)) + content


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days_valid: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=max(1.0, 1.0 - days_valid)))
        .not_valid_after(now + dt.timedelta(days=days_valid))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in extension}


def _ends_soon(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc < dt.datetime.now(dt.UTC) + RENEW_BEFORE


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `path`, made when there is none."""
    if not path.exists():
        write_private(path, _pem(ec.generate_private_key(ec.SECP256R1())))
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError:
        # The library's message might quote what it read; ours does not.
        raise ConfigError(f"{path} holds no private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{path} is not a P-256 key")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, data: bytes) -> None:
    """Replaces `path` in one step by a file that only its owner reads."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    scratch.replace(path)
