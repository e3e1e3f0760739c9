import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pushd.config.http import TlsHost
from pushd.errors import ConfigError
from pushd.web.tls import Certificates

from .conftest import GET


def certificate(folder, stem, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{stem}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{stem}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def host(folder, stem, *names):
    return TlsHost(
        certificate_file=str(folder / f"{stem}.pem"), key_file=str(folder / f"{stem}.key"), names=list(names)
    )


@pytest.fixture
def hosts(tmp_path):
    certificate(tmp_path, "one", "one.example")
    certificate(tmp_path, "two", "two.example")
    certificate(tmp_path, "rest", "rest.example")
    return [
        host(tmp_path, "one", "one.example"),
        host(tmp_path, "two", "two.example", "*.two.example"),
        host(tmp_path, "rest"),
    ]


def trusting():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def subject(wire):
    der = wire.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


async def shown(connect, port, name):
    async with connect(port, ssl=trusting(), server_hostname=name) as wire:
        wire.write(GET)
        assert (await wire.answer())[0] == 200
        return subject(wire)


@pytest.mark.asyncio
async def test_each_host_name_has_its_certificate(serve, connect, hosts):
    async with serve(tls=hosts) as server:
        port = server.tls_port
        assert await shown(connect, port, "one.example") == "one.example"
        assert await shown(connect, port, "TWO.example") == "two.example"
        assert await shown(connect, port, "a.two.example") == "two.example"
        assert await shown(connect, port, "a.b.two.example") == "rest.example"
        assert await shown(connect, port, "other.example") == "rest.example"
        assert await shown(connect, port, "127.0.0.1") == "rest.example"


@pytest.mark.asyncio
async def test_a_reload_serves_the_new_certificate_and_drops_nobody(serve, connect, hosts, tmp_path):
    async with (
        serve(tls=hosts) as server,
        connect(server.tls_port, ssl=trusting(), server_hostname="one.example") as open_one,
    ):
        open_one.write(GET)
        assert (await open_one.answer())[0] == 200
        certificate(tmp_path, "one", "renewed.example")
        server.reload()
        assert await shown(connect, server.tls_port, "one.example") == "renewed.example"
        open_one.write(GET)
        assert (await open_one.answer())[0] == 200


@pytest.mark.asyncio
async def test_a_reload_that_fails_changes_nothing(serve, connect, hosts, tmp_path):
    async with serve(tls=hosts) as server:
        certificate(tmp_path, "one", "renewed.example")
        (tmp_path / "two.pem").write_text("not a certificate")
        with pytest.raises(ConfigError, match=r"two\.pem"):
            server.reload()
        assert await shown(connect, server.tls_port, "one.example") == "one.example"
        assert await shown(connect, server.tls_port, "two.example") == "two.example"


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_tls_is_refused(serve, connect, hosts):
    old = trusting()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with serve(tls=hosts) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connect(server.tls_port, ssl=old, server_hostname="one.example"):
                pass


def test_unusable_certificates_are_configuration_errors(tmp_path, hosts):
    with pytest.raises(ConfigError, match="at least one"):
        Certificates([])
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        Certificates([host(tmp_path, "missing")])
    (tmp_path / "two.key").write_bytes((tmp_path / "one.key").read_bytes())
    with pytest.raises(ConfigError, match=r"two\.pem"):
        Certificates(hosts)
