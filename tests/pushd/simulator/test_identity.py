"""The simulator's identity: made once, used again, as private as keys must be."""

import datetime as dt
import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pushd.errors import ConfigError
from pushd.simulator.identity import Identity, ProviderKey, issue


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def manifest(identity):
    return identity.write_manifest(host="127.0.0.1", production_port=1, sandbox_port=2, control_port=3)


def test_makes_what_is_missing_and_keeps_what_is_there(tmp_path):
    identity = Identity(tmp_path)
    manifest(identity)
    before = files(tmp_path)
    assert set(before) == {"ca.pem", "ca-key.pem", "server.pem", "AuthKey_SIMKEY0001.p8", "simulator.json"}
    again = Identity(tmp_path)
    assert again.keys == identity.keys
    assert files(tmp_path) == before


def test_keys_are_pkcs8_and_private(tmp_path):
    identity = Identity(tmp_path)
    assert identity.pem("SIMKEY0001").startswith("-----BEGIN PRIVATE KEY-----")
    for name in ("AuthKey_SIMKEY0001.p8", "ca-key.pem", "server.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_more_keys_join_those_of_the_manifest(tmp_path):
    manifest(Identity(tmp_path))
    pem = (tmp_path / "AuthKey_SIMKEY0001.p8").read_bytes()
    identity = Identity(tmp_path, [ProviderKey(team_id="ANOTHER001", key_id="ANOTHERKEY")])
    assert set(identity.keys) == {"SIMKEY0001", "ANOTHERKEY"}
    told = manifest(identity)
    assert told.key_files["ANOTHERKEY"] == str(tmp_path / "AuthKey_ANOTHERKEY.p8")
    assert set(Identity(tmp_path).keys) == {"SIMKEY0001", "ANOTHERKEY"}
    assert (tmp_path / "AuthKey_SIMKEY0001.p8").read_bytes() == pem


def test_a_new_name_renews_the_server_certificate_but_not_the_ca(tmp_path):
    Identity(tmp_path)
    before = files(tmp_path)
    Identity(tmp_path, names=["push.example.com", "10.0.0.1"])
    after = files(tmp_path)
    assert after["ca.pem"] == before["ca.pem"]
    assert after["server.pem"] != before["server.pem"]
    served = x509.load_pem_x509_certificate(after["server.pem"])
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "api.push.apple.com", "push.example.com"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "10.0.0.1"} <= {str(name) for name in names.get_values_for_type(x509.IPAddress)}


def test_a_lost_ca_makes_a_new_server_certificate(tmp_path):
    Identity(tmp_path)
    before = files(tmp_path)
    (tmp_path / "ca-key.pem").unlink()
    Identity(tmp_path)
    after = files(tmp_path)
    assert after["ca.pem"] != before["ca.pem"]
    served = x509.load_pem_x509_certificate(after["server.pem"])
    served.verify_directly_issued_by(x509.load_pem_x509_certificate(after["ca.pem"]))


def test_certificates_satisfy_strict_verification(tmp_path):
    """RFC 5280 as OpenSSL's strict mode reads it."""
    identity = Identity(tmp_path)
    client = ssl.create_default_context(cafile=str(identity.ca_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ends = [ssl.MemoryBIO() for _ in range(2)]
    server_side = identity.tls().wrap_bio(ends[0], ends[1], server_side=True)
    client_side = client.wrap_bio(ends[1], ends[0], server_hostname="localhost")
    done = set()
    for _ in range(10):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {client_side, server_side}


def test_an_expired_certificate_can_be_issued(tmp_path):
    Identity(tmp_path)
    ca_key = serialization.load_pem_private_key((tmp_path / "ca-key.pem").read_bytes(), None)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    served = x509.load_pem_x509_certificate(issue(ca_key, ca, ["localhost"], days_valid=-1))
    assert served.not_valid_before_utc < served.not_valid_after_utc < dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("name", ["simulator.json", "AuthKey_SIMKEY0001.p8"])
def test_broken_files_are_named_and_not_quoted(tmp_path, name):
    (tmp_path / name).write_text("s3cret")
    with pytest.raises(ConfigError) as caught:
        Identity(tmp_path)
    assert name in caught.value.detail
    assert "s3cret" not in caught.value.detail
