"""What credentials are made of: checked when uploaded, as bytes for the vault, and what may be shown of them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from protocols import fcm, jwt, safari, smtp, vapid
from protocols.apns_certificate import P12Error
from pushd.credentials import vapid_keys
from pushd.errors import Fault, InvalidRequestError
from pushd.model.credential import (
    ApnsCertificate,
    ApnsToken,
    CertificateSecret,
    EmailSender,
    FcmServiceAccount,
    HmsClient,
    SafariCertificate,
    Secret,
    VapidKeys,
)
from pushd.transport.tls import show_identity

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Secret)


def examine(secret: Secret, pointer: str = "") -> dict[str, str]:
    """What may be shown of a secret, once it is known to be usable.

    InvalidRequestError points at the field under `pointer`, and never holds key material.
    """
    try:
        return _EXAMINERS[type(secret)](secret)
    except UnusableError as error:
        fault = Fault(f"{pointer}/{error.field}", str(error))
        raise InvalidRequestError("The credential is not usable", faults=[fault]) from None


class UnusableError(ValueError):
    """A secret that cannot be used: which field is at fault, and why, without key material."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def _apns_token(secret: ApnsToken) -> dict[str, str]:
    try:
        jwt.load_p8(secret.private_key)
    except ValueError as error:
        raise UnusableError("private_key", str(error)) from None
    summary = {"type": "apns_token", "team_id": secret.team_id, "key_id": secret.key_id}
    if secret.topics:
        summary["topics"] = ", ".join(secret.topics)
    return summary


def _certificate(secret: CertificateSecret) -> dict[str, str]:
    try:
        identity = secret.identity
        show_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), identity)
    except P12Error as error:
        raise UnusableError("password" if error.password else "p12", str(error)) from None
    except ssl.SSLError:
        raise UnusableError("p12", "its key or certificate is too weak, or of a kind that TLS does not take") from None
    return {
        "type": str(type(secret).__struct_config__.tag),
        "subject": identity.subject,
        "topics": ", ".join(identity.topics),
        "environments": ", ".join(secret.environments),
        "expires": datetime.fromtimestamp(identity.not_after, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fingerprint": identity.fingerprint,
    }


def _safari_certificate(secret: SafariCertificate) -> dict[str, str]:
    summary = _certificate(secret)
    if not all(topic.startswith(safari.ID_PREFIX) for topic in secret.identity.topics):
        raise UnusableError("p12", "the certificate is not of a website push id, which begins with web.")
    if secret.url_format:
        try:
            safari.check_format(secret.url_format)
        except ValueError as error:
            raise UnusableError("url_format", str(error)) from None
    return summary | ({"url_format": secret.url_format} if secret.url_format else {})


def _vapid(secret: VapidKeys) -> dict[str, str]:
    try:
        vapid.check_subject(secret.subject)
    except ValueError as error:
        raise UnusableError("subject", str(error)) from None
    fields = {"private_key": secret.private_key}
    fields |= {f"previous/{number}": text for number, text in enumerate(secret.previous or ())}
    for field, text in fields.items():
        try:
            vapid.load_private(text)
        except ValueError as error:
            raise UnusableError(field, str(error)) from None
    return vapid_keys.summary(secret)


def _fcm_service_account(secret: FcmServiceAccount) -> dict[str, str]:
    try:
        fcm.check_project_id(secret.project_id)
    except ValueError as error:
        raise UnusableError("project_id", str(error)) from None
    try:
        jwt.load_rsa(secret.private_key)
    except ValueError as error:
        raise UnusableError("private_key", str(error)) from None
    summary = {"type": "service_account", "project_id": secret.project_id, "client_email": secret.client_email}
    summary["private_key_id"] = secret.private_key_id
    if secret.packages:
        summary["packages"] = ", ".join(secret.packages)
    return summary


def _hms_client(secret: HmsClient) -> dict[str, str]:
    summary = {"type": "hms_client", "client_id": secret.client_id}
    if secret.project_id:
        summary["project_id"] = secret.project_id
    if secret.packages:
        summary["packages"] = ", ".join(secret.packages)
    return summary


def _email_sender(secret: EmailSender) -> dict[str, str]:
    for field in ("from_address", "reply_to", "unsubscribe_mail"):
        text = getattr(secret, field)
        if not text and field != "from_address":
            continue
        try:
            smtp.check_address(text)
        except ValueError as error:
            raise UnusableError(field, str(error)) from None
    if not secret.from_name.isprintable():
        raise UnusableError("from_name", "must not hold control characters")
    return {"type": "email_sender"} | {name: getattr(secret, name) for name in secret.shown if getattr(secret, name)}


_EXAMINERS: dict[type, Callable[[Any], dict[str, str]]] = {
    ApnsToken: _apns_token,
    ApnsCertificate: _certificate,
    SafariCertificate: _safari_certificate,
    FcmServiceAccount: _fcm_service_account,
    VapidKeys: _vapid,
    HmsClient: _hms_client,
    EmailSender: _email_sender,
}
"""How each sort of secret is proven without asking its gateway; UnusableError names the field."""


def complete(secret: Secret, known: Secret | None) -> Secret:
    """A secret as it is stored, in place of `known`: what was left to us is made, what must be kept is kept."""
    if isinstance(secret, VapidKeys):
        return vapid_keys.complete(secret, known if isinstance(known, VapidKeys) else None)
    if isinstance(secret, SafariCertificate) and secret.url_format is None:
        # Browsers hold the format that they were given: a renewed certificate is no reason for another.
        kept = known.url_format if isinstance(known, SafariCertificate) else None
        return msgspec.structs.replace(secret, url_format=kept or "")
    return secret


def dump(secret: Secret) -> bytes:
    """The bytes of a secret, to be sealed."""
    return _ENCODER.encode(secret)


def load(plaintext: bytes) -> Secret:
    """The secret that `dump` wrote; ValueError, without its content, for other bytes."""
    try:
        secret: Secret = _DECODER.decode(plaintext)
    except msgspec.MsgspecError:
        raise ValueError("not a secret that this version of pushd knows") from None
    return secret
