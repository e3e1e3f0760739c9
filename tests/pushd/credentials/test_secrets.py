"""Secrets: examined, dumped, loaded, and never shown."""

import io
import subprocess

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console

from pushd.credentials import secrets
from pushd.errors import InvalidRequestError
from pushd.model.credential import ApnsToken, FcmServiceAccount, SafariCertificate, Secret
from pushd.simulator.identity import Identity


def test_what_may_be_shown(secret):
    assert secrets.examine(secret) == {"type": "apns_token", "team_id": "TEAM123456", "key_id": "KEY1234567"}
    topical = ApnsToken(team_id="T", key_id="K", private_key=secret.private_key, topics=["a.b", "c.d"])
    assert secrets.examine(topical)["topics"] == "a.b, c.d"


def test_a_bad_key_points_at_its_field(secret):
    broken = ApnsToken(team_id="T", key_id="K", private_key=secret.private_key[:80])
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(broken, "/secret")
    (fault,) = caught.value.faults
    assert fault.pointer == "/secret/private_key"
    assert secret.private_key[30:60] not in fault.detail + str(caught.value)


def test_round_trip_and_other_bytes(secret):
    assert secrets.load(secrets.dump(secret)) == secret
    for plaintext in (b"", b"{}", b'{"type":"other"}', b"\xff", secrets.dump(secret)[:-1]):
        with pytest.raises(ValueError) as caught:
            secrets.load(plaintext)
        assert "BEGIN" not in str(caught.value)


def test_g09_neither_repr_nor_a_rich_traceback_shows_the_key(secret):
    out = io.StringIO()
    Console(file=out, width=400).print(secret, [secret], {"s": secret})
    shown = repr(secret) + str([secret]) + out.getvalue()
    assert "KEY1234567" in shown
    assert "PRIVATE" not in shown
    assert secret.private_key.splitlines()[1][:16] not in shown


@pytest.fixture(scope="module")
def key_file():
    """A service account's key file, with addresses that nobody may be sent to."""
    key, form = rsa.generate_private_key(65537, 2048), serialization.PrivateFormat.PKCS8
    return {
        "type": "service_account",
        "project_id": "demo-app",
        "private_key_id": "abc123",
        "private_key": key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode(),
        "client_email": "push@demo-app.iam.gserviceaccount.com",
        "client_id": "1",
        "auth_uri": "https://accounts.example/auth",
        "token_uri": "https://169.254.169.254/token",
        "auth_provider_x509_cert_url": "https://certs.example",
        "client_x509_cert_url": "https://certs.example/1",
        "universe_domain": "evil.example",
    }


def test_f02_a_key_file_is_taken_as_google_gives_it_and_its_addresses_are_not_shown(key_file):
    secret = msgspec.convert(key_file, Secret)
    assert isinstance(secret, FcmServiceAccount)
    assert secrets.examine(secret) == {
        "type": "service_account",
        "project_id": "demo-app",
        "client_email": "push@demo-app.iam.gserviceaccount.com",
        "private_key_id": "abc123",
    }
    assert secrets.load(secrets.dump(secret)) == secret
    assert "PRIVATE" not in repr(secret)
    own = msgspec.structs.replace(secret, packages=["com.example.app"])
    assert (own.serves("com.example.app"), own.serves("com.example.other")) == (True, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("project_id", "../../v2"), ("project_id", "X"), ("private_key", "nonsense"), ("private_key", "-----BEGIN X")],
)
def test_f02_a_key_file_that_cannot_be_used_points_at_its_field(key_file, field, value):
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(msgspec.convert({**key_file, field: value}, FcmServiceAccount), "/secret")
    assert [fault.pointer for fault in caught.value.faults] == [f"/secret/{field}"]


def test_f02_small_keys_are_refused(key_file):
    key, form = rsa.generate_private_key(65537, 1024), serialization.PrivateFormat.PKCS8
    small = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(msgspec.convert({**key_file, "private_key": small}, FcmServiceAccount))
    assert "1024 bits" in caught.value.faults[0].detail


WEBSITE = "/UID=web.com.example/CN=Website Push ID: web.com.example"
ENCRYPTIONS = {
    "old": ("-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
    "new": ("-certpbe", "AES-256-CBC", "-keypbe", "AES-256-CBC", "-macalg", "sha256"),
}


@pytest.fixture(scope="module")
def website_p12(tmp_path_factory):
    """p12 files of a website push id as OpenSSL writes them, by the age of their encryption."""
    folder = tmp_path_factory.mktemp("safari")

    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True).stdout

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-subj", WEBSITE)
    export = ("pkcs12", "-export", "-in", "c", "-inkey", "k", "-passout", "pass:apple")
    return {age: openssl(*export, *form) for age, form in ENCRYPTIONS.items()}


@pytest.mark.parametrize("age", ["old", "new"])
def test_s02_the_p12_of_a_website_push_id_old_and_new(website_p12, age):
    form = "https://example.com/%@"
    secret = SafariCertificate(p12=website_p12[age], password="apple", url_format=form)
    summary = secrets.examine(secret)
    assert summary["topics"] == "web.com.example"
    assert (summary["type"], summary["environments"]) == ("safari_certificate", "production")
    assert summary["url_format"] == form
    assert secret.bundles == ("web.com.example",)
    assert secrets.load(secrets.dump(secret)) == secret
    assert "PRIVATE" not in repr(secret)
    assert "apple" not in repr(secret)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "pear"}, "password"),
        ({"p12": b"none"}, "p12"),
        ({"url_format": "example.com/%@"}, "url_format"),
        ({"url_format": "https://example.com/" + "%@" * 17}, "url_format"),
    ],
)
def test_s02_a_website_certificate_that_cannot_be_used_points_at_its_field(website_p12, change, field):
    secret = SafariCertificate(**({"p12": website_p12["new"], "password": "apple"} | change))
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(secret, "/secret")
    assert [fault.pointer for fault in caught.value.faults] == [f"/secret/{field}"]


def test_s02_an_apps_certificate_is_no_websites(tmp_path):
    p12 = Identity(tmp_path).p12(["com.example.orchard"], "apple")
    with pytest.raises(InvalidRequestError) as caught:
        secrets.examine(SafariCertificate(p12=p12, password="apple"), "/secret")
    assert [fault.pointer for fault in caught.value.faults] == ["/secret/p12"]


def test_s03_a_renewed_certificate_keeps_the_sites_format(website_p12):
    known = SafariCertificate(p12=website_p12["old"], password="apple", url_format="https://example.com/%@")
    renewed = SafariCertificate(p12=website_p12["new"], password="apple")
    assert secrets.complete(renewed, known).url_format == "https://example.com/%@"
    assert secrets.complete(renewed, None).url_format == ""
    other = msgspec.structs.replace(renewed, url_format="https://example.com/")
    assert secrets.complete(other, known).url_format == "https://example.com/"
