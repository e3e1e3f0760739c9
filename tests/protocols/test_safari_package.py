"""Push packages, read by an independent implementation: unzipped by Info-ZIP, verified by OpenSSL's cms and smime."""

import hashlib
import json
import shutil
import struct
import subprocess
import zipfile
import zlib

import pytest

from protocols import safari_package
from protocols.safari_package import ICONS, Signer, Wrapping

SUBJECT = "/UID=web.com.example/CN=Website Push ID: web.com.example"


def png(side, colour=b"\x33\x66\x99"):
    """A PNG of one colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + colour * side) * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def icons():
    return {name: png(side) for name, side in ICONS.items()}


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    """A root, an intermediate authority and a website's certificate, made by OpenSSL; by the kind of their keys."""
    folder = tmp_path_factory.mktemp("package")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    authority = folder / "authority.cnf"
    authority.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=hash\n")
    for kind, new in (("rsa", "rsa:2048"), ("ec", "ec")):
        more = ("-pkeyopt", "ec_paramgen_curve:prime256v1") if kind == "ec" else ()
        root = ("req", "-x509", "-newkey", new, *more, "-nodes", "-keyout", f"{kind}-rk", "-out", f"{kind}-root")
        openssl(*root, "-subj", "/CN=Root")
        for name, subject, by, extensions in (
            ("middle", "/CN=Apple Worldwide Developer Relations", "root", ("-extfile", "authority.cnf")),
            ("own", SUBJECT, "middle", ()),
        ):
            key, signer = f"{kind}-{name[0]}k", f"{kind}-{by[0]}k"
            request = ("req", "-newkey", new, *more, "-nodes", "-keyout", key, "-out", "request", "-subj", subject)
            openssl(*request)
            openssl(
                *("x509", "-req", "-in", "request", "-CA", f"{kind}-{by}", "-CAkey", signer, "-CAcreateserial"),
                *("-days", "30", "-out", f"{kind}-{name}", *extensions),
            )
    return folder


def signer(folder, kind="rsa"):
    own, key = (folder / f"{kind}-own").read_bytes(), (folder / f"{kind}-ok").read_bytes()
    return Signer(own, key, (folder / f"{kind}-middle").read_text())


def website(**changes):
    fields = {
        "name": "Orchard & Söhne",
        "website_push_id": "web.com.example",
        "allowed_domains": ["https://example.com", "http://www.example.com"],
        "url_format": "https://example.com/%@?x=%@",
        "authentication_token": "t" * 16,
        "web_service_url": "https://push.example.com/pushd/safari/1",
    }
    return safari_package.website_json(**(fields | changes))


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_s05_openssl_verifies_the_signature_and_every_hash_is_right(signing, tmp_path, kind):
    (tmp_path / "package.zip").write_bytes(Wrapping(icons(), signer(signing, kind)).package(website()))
    assert shutil.which("unzip"), "unzip is needed"
    subprocess.run(["unzip", "-q", "package.zip", "-d", "package"], cwd=tmp_path, check=True)
    folder = tmp_path / "package"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"website.json", "manifest.json", "signature", *(f"icon.iconset/{name}" for name in ICONS)}
    for tool in ("cms", "smime"):
        verify = ["openssl", tool, "-verify", "-inform", "DER", "-in", "signature", "-content", "manifest.json"]
        verify += ["-CAfile", signing / f"{kind}-root", "-purpose", "any", "-binary", "-out", tmp_path / "out"]
        done = subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out").read_bytes() == (folder / "manifest.json").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert set(manifest) == names - {"manifest.json", "signature"}
    for name, told in manifest.items():
        hashed = hashlib.sha512((folder / name).read_bytes()).hexdigest()
        assert told == {"hashType": "sha512", "hashValue": hashed}
    assert json.loads((folder / "website.json").read_bytes()) == {
        "websiteName": "Orchard & Söhne",
        "websitePushID": "web.com.example",
        "allowedDomains": ["https://example.com", "http://www.example.com"],
        "urlFormatString": "https://example.com/%@?x=%@",
        "authenticationToken": "t" * 16,
        "webServiceURL": "https://push.example.com/pushd/safari/1",
    }


def test_s05_the_signature_is_detached_and_carries_the_intermediate(signing, tmp_path):
    (tmp_path / "p.zip").write_bytes(Wrapping(icons(), signer(signing)).package(website()))
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.testzip() is None
        (tmp_path / "signature").write_bytes(archive.read("signature"))
        manifest = archive.read("manifest.json")
    assert manifest not in (tmp_path / "signature").read_bytes()
    listed = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-in", "signature", "-print_certs", "-noout"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "Website Push ID: web.com.example" in listed
    assert "Apple Worldwide Developer Relations" in listed


def test_s05_a_changed_manifest_is_not_verified(signing, tmp_path):
    (tmp_path / "signature").write_bytes(signer(signing).sign(b'{"website.json":1}'))
    (tmp_path / "content").write_bytes(b'{"website.json":2}')
    verify = ["openssl", "cms", "-verify", "-inform", "DER", "-in", "signature", "-content", "content", "-binary"]
    done = subprocess.run(
        [*verify, "-CAfile", signing / "rsa-root", "-purpose", "any"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode != 0


def test_s05_a_chain_without_the_issuer_says_so(signing):
    own, key = (signing / "rsa-own").read_bytes(), (signing / "rsa-ok").read_bytes()
    for chain in ("", (signing / "rsa-root").read_text(), (signing / "ec-middle").read_text()):
        with pytest.raises(ValueError, match="lacks the certificate of CN=Apple Worldwide"):
            Signer(own, key, chain)
    with pytest.raises(ValueError):
        Signer(own, key, "no certificate")
    Signer(own + (signing / "rsa-middle").read_bytes(), key)


@pytest.mark.parametrize("name", ICONS)
def test_s05_an_icon_has_the_size_of_its_name(name):
    side = ICONS[name]
    assert safari_package.check_icon(name, png(side))
    for wrong in (png(side + 1), png(side)[:20], b"GIF89a" + bytes(40), b"", png(side) + bytes(262_144)):
        with pytest.raises(ValueError, match=r"PNG|pixels|bytes"):
            safari_package.check_icon(name, wrong)


def test_s05_the_icon_set_is_apples():
    assert dict(ICONS) == {
        "icon_16x16.png": 16,
        "icon_16x16@2x.png": 32,
        "icon_32x32.png": 32,
        "icon_32x32@2x.png": 64,
        "icon_128x128.png": 128,
        "icon_128x128@2x.png": 256,
    }


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            safari_package.check_domain,
            ["https://example.com", "http://www.example.com", "https://example.com:8443"],
            ["example.com", "https://example.com/", "https://example.com/x", "ftp://e.org", "https://", "https://é.fr"],
        ),
        (
            safari_package.check_service_url,
            ["https://push.example.com", "https://push.example.com/pushd/safari/1"],
            ["http://push.example.com", "https://e.org/", "https://e.org/x?y", "https://e.org/x#", "https://a@e.org"],
        ),
        (
            lambda text: safari_package.check_reach(text, ["https://example.com", "http://www.example.com"]),
            ["https://example.com/%@", "http://www.example.com/"],
            ["https://example.org/%@", "https://sub.example.com/", "%@"],
        ),
    ],
)
def test_s05_addresses_of_a_site(check, good, bad):
    for text in good:
        assert check(text) == text
    for text in bad:
        with pytest.raises(ValueError, match=r"must|leads"):
            check(text)
