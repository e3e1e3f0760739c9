"""Push certificates: p12 files as OpenSSL writes them, old and new, and what Apple's extensions say."""

import contextlib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from protocols import apns_certificate
from protocols.apns_certificate import P12Error, open_p12

SUBJECT = "/UID=com.example.orchard/CN=Apple Push Services: com.example.orchard"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`openssl` on a key, its certificate and a chain."""
    folder = tmp_path_factory.mktemp("p12")

    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True).stdout

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-subj", SUBJECT)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k2", "-out", "ca", "-subj", "/CN=An authority")
    openssl.export = lambda *more: openssl("pkcs12", "-export", "-in", "c", *more)
    return openssl


OLD = ("-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")


@pytest.mark.parametrize("form", [OLD, ("-certpbe", "AES-256-CBC"), ("-certpbe", "NONE", "-keypbe", "NONE")])
def test_a22_old_and_new_encryptions_open(made, form):
    identity = open_p12(made.export("-inkey", "k", "-passout", "pass:apple", *form), "apple")
    assert identity.topics == identity.bundles == ("com.example.orchard",)
    assert identity.sandbox
    assert identity.production
    assert identity.subject == "Apple Push Services: com.example.orchard"
    key = serialization.load_pem_private_key(identity.private_key, None)
    own = x509.load_pem_x509_certificate(identity.certificates)
    assert key.public_key() == own.public_key()
    assert identity.not_after == own.not_valid_after_utc.timestamp()
    assert identity.fingerprint == own.fingerprint(hashes.SHA256()).hex()


def test_a22_passwords(made):
    p12 = made.export("-inkey", "k", "-passout", "pass:apple")
    for wrong in ("pear", "", "apple "):
        with pytest.raises(P12Error) as caught:
            open_p12(p12, wrong)
        assert caught.value.password
    assert open_p12(made.export("-inkey", "k", "-passout", "pass:"), "").topics
    assert open_p12(made.export("-inkey", "k", "-passout", "pass:äpfel"), "äpfel").topics


def test_a22_a_chain_keeps_the_certificate_of_the_key_first(made):
    p12 = made.export("-inkey", "k", "-passout", "pass:a", "-certfile", "ca")
    certificates = x509.load_pem_x509_certificates(open_p12(p12, "a").certificates)
    assert [each.subject.rfc4514_string().split(",")[0] for each in certificates] == [
        "CN=Apple Push Services: com.example.orchard",
        "CN=An authority",
    ]


def test_a22_a_file_without_key_or_for_no_push_says_so(made):
    with pytest.raises(P12Error, match="no private key"):
        open_p12(made.export("-nokeys", "-passout", "pass:a"), "a")
    with pytest.raises(P12Error, match="no topic"):
        open_p12(made("pkcs12", "-export", "-in", "ca", "-inkey", "k2", "-passout", "pass:a"), "a")


def test_what_is_no_p12_is_refused_without_a_word_of_it(made):
    p12 = made.export("-inkey", "k", "-passout", "pass:apple")
    pem = made("rsa", "-in", "k")
    for data in (
        b"",
        b"\x30",
        p12[:-1],
        p12[:200],
        pem,
        bytes(70_000),
        b"\x30\x80" * 200,
        b"\x1f\x81" * 9,
        b"\x30\xff",
    ):
        with pytest.raises(P12Error) as caught:
            open_p12(data, "apple")
        assert len(str(caught.value)) < 120
    for at in range(0, len(p12), 97):
        bent = p12[:at] + bytes([p12[at] ^ 0xFF]) + p12[at + 1 :]
        with contextlib.suppress(P12Error):
            open_p12(bent, "apple")


def test_a22_a_file_cannot_ask_for_work_without_end():
    key = rsa.generate_private_key(65537, 2048)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(apns_certificate.ROUNDS_MAX + 1)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .build(b"apple")
    )
    p12 = pkcs12.serialize_key_and_certificates(None, key, None, None, encryption)
    with pytest.raises(P12Error, match="rounds of key derivation"):
        open_p12(p12, "apple")


def test_a21_topics_come_from_apples_extension():
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from pushd.model.device import Environment
    from pushd.simulator.identity import Identity

    topics = ["com.example.orchard", "com.example.orchard.voip", "com.example.orchard.complication"]
    with TemporaryDirectory() as folder:
        identity = Identity(Path(folder))
        opened = open_p12(identity.p12(topics, "a", environments=[Environment.SANDBOX]), "a")
    assert opened.topics == tuple(topics)
    assert opened.bundles == ("com.example.orchard",)
    assert (opened.sandbox, opened.production) == (True, False)


def test_g09_no_key_is_in_what_is_shown(made):
    identity = open_p12(made.export("-inkey", "k", "-passout", "pass:apple"), "apple")
    assert "PRIVATE" not in repr(identity) + str(identity)
