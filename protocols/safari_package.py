"""Safari push packages: the signed zip that a site hands to Safari when a visitor is asked for permission (S-05).

Theory. A package holds website.json, six icons, manifest.json with the SHA-512 of each of these, and `signature`, a
detached PKCS #7 signature of manifest.json by the website push certificate with Apple's intermediate certificate in it.

Rules: octets do not depend on the time, but for the signature, whose signing time is OpenSSL's to write. Icons are
read as far as their size stands in them; the rest is Safari's to judge.

Sources: Apple, "Configuring Safari Push Notifications", sections "Building the Push Package" and "Creating the
Manifest File" (its second form, by hashType and hashValue); RFC 2315; RFC 5652.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from protocols import safari

ICONS: Mapping[str, int] = {
    "icon_16x16.png": 16,
    "icon_16x16@2x.png": 32,
    "icon_32x32.png": 32,
    "icon_32x32@2x.png": 64,
    "icon_128x128.png": 128,
    "icon_128x128@2x.png": 256,
}
"""The names of the icons, all of which must be there, and the pixels of a side."""
ICON_BYTES_MAX = 262_144
ICON_FOLDER = "icon.iconset/"
TOKEN_CHARS_MIN = 16
"""Of an authenticationToken, by Apple's document."""

_PNG = b"\x89PNG\r\n\x1a\n"
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""What a zip says of a file whose time is of no interest."""


def check_icon(name: str, data: bytes) -> bytes:
    """The icon; ValueError for what is no PNG of the size that its name says."""
    side = ICONS[name]
    if len(data) > ICON_BYTES_MAX:
        raise ValueError(f"has {len(data)} bytes: at most {ICON_BYTES_MAX} are possible")
    if data[:8] != _PNG or data[12:16] != b"IHDR" or len(data) < 33:
        raise ValueError("is no PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if (width, height) != (side, side):
        raise ValueError(f"has {width} times {height} pixels, and must have {side} times {side}")
    return data


def check_domain(text: str) -> str:
    """One of allowedDomains, such as https://example.com; ValueError."""
    parts = _url(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an origin, such as https://example.com")
    if parts.path or parts.query or parts.fragment or text.endswith(("/", "?", "#")):
        raise ValueError("must be an origin, without a path")
    return text


def check_service_url(text: str) -> str:
    """A webServiceURL; ValueError."""
    parts = _url(text)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https URL: Safari asks no other")
    if parts.query or parts.fragment or text.endswith(("/", "?", "#")):
        raise ValueError("must have no query, and no slash at its end")
    return text


def check_reach(url_format: str, domains: Sequence[str]) -> str:
    """The urlFormatString; ValueError where its host is none of the domains'."""
    host = safari.host_of(url_format)
    if host not in {_url(each).hostname for each in domains}:
        raise ValueError(f"leads to {host}, which is none of the allowed domains")
    return url_format


def website_json(
    *,
    name: str,
    website_push_id: str,
    allowed_domains: Sequence[str],
    url_format: str,
    authentication_token: str,
    web_service_url: str,
) -> bytes:
    """The octets of website.json."""
    assert len(authentication_token) >= TOKEN_CHARS_MIN
    return orjson.dumps(
        {
            "websiteName": name,
            "websitePushID": website_push_id,
            "allowedDomains": list(allowed_domains),
            "urlFormatString": url_format,
            "authenticationToken": authentication_token,
            "webServiceURL": web_service_url,
        }
    )


class Signer:
    """The website push certificate with its key and chain. `certificates` is PEM, its own first; `key` PEM, PKCS #8.

    ValueError where the certificate of the authority that issued it is not among them: Safari refuses such packages.
    """

    def __init__(self, certificates: bytes, key: bytes, chain: str = "") -> None:
        own, *others = x509.load_pem_x509_certificates(certificates)
        others += x509.load_pem_x509_certificates(chain.encode()) if chain else []
        if not any(_issued(each, own) for each in others):
            issuer = own.issuer.rfc4514_string()
            raise ValueError(f"lacks the certificate of {issuer}, which issued the website's: Safari asks for it")
        loaded = serialization.load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(loaded, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        self._own, self._key, self._others = own, loaded, others

    def sign(self, data: bytes) -> bytes:
        """The detached PKCS #7 signature of the data, in DER."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(self._own, self._key, hashes.SHA256())
        for each in self._others:
            builder = builder.add_certificate(each)
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        return builder.sign(serialization.Encoding.DER, options)


class Wrapping:
    """What the packages of one site share: its icons, their hashes, and who signs."""

    def __init__(self, icons: Mapping[str, bytes], signer: Signer) -> None:
        assert set(icons) == set(ICONS)
        self._files = {ICON_FOLDER + name: icons[name] for name in ICONS}
        self._manifest = {name: _hashed(data) for name, data in self._files.items()}
        self._signer = signer

    def package(self, website: bytes) -> bytes:
        """A whole package, as a zip."""
        manifest = orjson.dumps({"website.json": _hashed(website), **self._manifest})
        signature = self._signer.sign(manifest)
        files = {"website.json": website, **self._files, "manifest.json": manifest, "signature": signature}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name, _OLDEST)
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, data)
        return out.getvalue()


def _hashed(data: bytes) -> dict[str, str]:
    return {"hashType": "sha512", "hashValue": hashlib.sha512(data).hexdigest()}


def _issued(authority: x509.Certificate, own: x509.Certificate) -> bool:
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _url(text: str) -> SplitResult:
    """The parts of a URL; ValueError for what is none, or not in plain characters."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ValueError("must not name a user")
    return parts
