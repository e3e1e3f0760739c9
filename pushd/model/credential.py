"""Gateway credentials of an app, per platform and environment; secrets live encrypted in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from protocols.apns_certificate import P12_BYTES_MAX, ApnsIdentity, open_p12
from protocols.safari import FORMAT_CHARS_MAX
from pushd.model.device import Environment, GatewayName

_Unused = Annotated[str, Meta(max_length=1000)]


class CredentialState(StrEnum):
    """Whether a credential is used."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Refused by the gateway: its messages wait until it is replaced, resumed, or they expire."""


class GatewaySecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the secrets of all gateways have in common. `shown` names the fields that may be seen."""

    gateway: ClassVar[GatewayName]
    shown: ClassVar[tuple[str, ...]]

    @property
    def bundles(self) -> Sequence[str]:
        """The bundles or packages that it serves alone; none: it serves them all.

        One that names bundles is chosen before one that does not (A-18).
        """
        return ()

    @property
    def environments(self) -> Collection[Environment]:
        """The environments that it can serve."""
        return tuple(Environment)

    @property
    def expires_at(self) -> float | None:
        """UNIX seconds after which its gateway takes it no more; None where it says nothing of that."""
        return None

    def serves(self, bundle: str) -> bool:
        """Whether it may send to installs of this bundle or package."""
        return not self.bundles or bundle in self.bundles

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Tracebacks show locals by these two: no key may be among them (G-09).
        return [(name, getattr(self, name)) for name in self.shown]


class ApnsToken(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="apns_token"):
    """An APNs provider token key (p8): Apple's 10-character ids and the PKCS#8 PEM text."""

    gateway = GatewayName.APNS
    shown = ("team_id", "key_id", "topics")

    team_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")]
    key_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")]
    private_key: Annotated[str, Meta(max_length=4096)]
    topics: list[str] = []
    """Bundle ids that this key serves; empty: every bundle of the app (a team-scoped key)."""

    @property
    def bundles(self) -> Sequence[str]:
        """The topics of a topic-specific key; none of a team-scoped one."""
        return self.topics


class CertificateSecret(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A certificate with its private key, as a p12 file in base64 and its password."""

    shown = ()

    p12: Annotated[bytes, Meta(max_length=P12_BYTES_MAX)]
    password: Annotated[str, Meta(max_length=255)] = ""

    @cached_property
    def identity(self) -> ApnsIdentity:
        """What the file holds, opened once; P12Error, a ValueError, where it cannot be."""
        return open_p12(self.p12, self.password)

    @property
    def bundles(self) -> Sequence[str]:
        """The bundle ids that the certificate names (A-21)."""
        return self.identity.bundles

    @property
    def environments(self) -> Collection[Environment]:
        """The environments that the certificate is marked for."""
        marks = {Environment.PRODUCTION: self.identity.production, Environment.SANDBOX: self.identity.sandbox}
        return tuple(environment for environment, marked in marks.items() if marked)

    @property
    def expires_at(self) -> float | None:
        """The end of the certificate's validity."""
        return self.identity.not_after


class ApnsCertificate(CertificateSecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="apns_certificate"):
    """An APNs certificate (p12): its topics and environments are read from it."""

    gateway = GatewayName.APNS


class SafariCertificate(
    CertificateSecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="safari_certificate"
):
    """The certificate of a website push id, for Safari 15 and older; the id, `web.…`, is the bundle of its devices."""

    gateway = GatewayName.SAFARI

    url_format: Annotated[str, Meta(max_length=FORMAT_CHARS_MAX)] | None = None
    """The site's urlFormatString: a message's link is taken apart by it, each `%@` an argument (S-03).

    Absent: the one that the credential had until now. Empty: not known, so that no link can be opened.
    """

    @property
    def environments(self) -> Collection[Environment]:
        """Production: websites have no sandbox (S-02)."""
        return (Environment.PRODUCTION,)


class FcmServiceAccount(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="service_account"):
    """A Google service account that may send with FCM: the key file as Google hands it out, field for field."""

    gateway = GatewayName.FCM
    shown = ("project_id", "client_email", "private_key_id", "packages")

    project_id: Annotated[str, Meta(max_length=94)]
    client_email: Annotated[str, Meta(pattern=r"^[!-?A-~]{1,190}@[A-Za-z0-9.-]{1,190}$")]
    private_key_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    private_key: Annotated[str, Meta(max_length=16_384)]
    packages: list[str] = []
    """Packages and bundle ids that this project serves; empty: all of the app's."""
    client_id: _Unused = ""
    auth_uri: _Unused = ""
    token_uri: _Unused = ""
    auth_provider_x509_cert_url: _Unused = ""
    client_x509_cert_url: _Unused = ""
    universe_domain: _Unused = ""
    """These come with the file and are not used: no address in it is ever connected to."""

    @property
    def bundles(self) -> Sequence[str]:
        """The packages that it serves alone."""
        return self.packages


class HmsClient(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hms_client"):
    """An OAuth client of HMS Push Kit: an app's id and secret, as AppGallery Connect shows them."""

    gateway = GatewayName.HMS
    shown = ("client_id", "project_id", "packages")

    client_id: Annotated[str, Meta(pattern=r"^[0-9]{1,20}$")]
    client_secret: Annotated[str, Meta(min_length=1, max_length=512)]
    project_id: Annotated[str, Meta(pattern=r"^([0-9]{1,20})?$")] = ""
    """Given: messages are sent by project (Huawei's v2), else by client id (v1)."""
    packages: list[str] = []
    """Packages that this app is; empty: all of the app's."""

    @property
    def bundles(self) -> Sequence[str]:
        """The packages that it serves alone."""
        return self.packages


class VapidKeys(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="vapid"):
    """VAPID keys of Web Push: the one that pages subscribe with, and older ones that subscriptions were made with."""

    gateway = GatewayName.WEBPUSH
    shown = ("subject",)

    subject: Annotated[str, Meta(max_length=255)]
    """A contact for push services: a mailto: or https: URI."""
    private_key: Annotated[str, Meta(max_length=4096)] = ""
    """PEM, or 32 octets in base64url; empty: one is made. Its public key is in the credential's summary."""
    previous: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=8)] | None = None
    """Older private keys; absent: those that the credential had until now, its own among them."""


class EmailSender(GatewaySecret, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="email_sender"):
    """As whom an app sends e-mail. The relay is the operator's, so nothing of this is secret."""

    gateway = GatewayName.EMAIL
    shown = ("from_address", "from_name", "reply_to", "unsubscribe_url", "unsubscribe_mail")

    from_address: Annotated[str, Meta(max_length=254)]
    from_name: Annotated[str, Meta(max_length=255)] = ""
    reply_to: Annotated[str, Meta(max_length=254)] = ""
    unsubscribe_url: Annotated[str, Meta(max_length=1000, pattern=r"^(https://[!-;=?-~]+)?$")] = ""
    """Of List-Unsubscribe, posted to by one click (RFC 8058); `{device}` stands for the device's id."""
    unsubscribe_mail: Annotated[str, Meta(max_length=254)] = ""
    """An address that takes wishes to unsubscribe."""


Secret = ApnsToken | ApnsCertificate | FcmServiceAccount | VapidKeys | HmsClient | EmailSender | SafariCertificate
"""What a credential is made of: one struct per way of authenticating, a tagged union as gateways are added."""


class Credential(Struct, frozen=True, kw_only=True):
    """A credential as the API shows it: never its secret."""

    id: int
    app_id: int
    gateway: GatewayName
    environment: Environment
    name: str
    summary: dict[str, str]
    """What may be shown of it, such as team id and key id."""
    state: CredentialState
    paused_reason: str | None
    created_at: float
    updated_at: float
