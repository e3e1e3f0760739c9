"""Google's token endpoint, local: assertions of known service accounts for access tokens that the local FCM takes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pushd.clock import Clock
from pushd.errors import ConfigError
from pushd.simulator.identity import Identity

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPES = frozenset(
    {"https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"}
)
LIFETIME_MAX_S = 3_600
SKEW_S = 300.0
"""How far an assertion's times may be from ours."""
FORM = "application/x-www-form-urlencoded"
BODY_MAX = 65_536
SHUTDOWN_TIMEOUT_S = 1.0


class Account(NamedTuple):
    """A service account, with the key file that Google would hand out."""

    project_id: str
    client_email: str
    key_id: str
    public_key: rsa.RSAPublicKey
    key_file: dict[str, str]


class Script(NamedTuple):
    """What the endpoint answers in place of what it would say."""

    status: int
    body: bytes
    delay_s: float = 0.0


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    typ: str = "JWT"


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    scope: str
    aud: str
    iat: int
    exp: int


class _Issued(NamedTuple):
    account: Account
    expires_at: float


class TokenServer:
    """The endpoint. `scripts` are used up first, one by one; `always` stands for all the rest."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._issued: dict[str, _Issued] = {}
        self.accounts: dict[str, Account] = {}
        """By client_email."""
        self.lifetime_s = 3_599
        self.requests = 0
        self.granted = 0
        self.scripts: deque[Script] = deque()
        self.always: Script | None = None

    def account(self, project_id: str, name: str = "pushd") -> Account:
        """A service account of a project; its key is made once and kept beside the simulator's others."""
        email = f"{name}@{project_id}.iam.gserviceaccount.com"
        if email not in self.accounts:
            self.accounts[email] = _account(self._identity.directory, project_id, email)
        return self.accounts[email]

    def holder(self, authorization: bytes | None) -> Account | None:
        """The account whose access token this is; None for one that is unknown, or has ended."""
        kind, _, token = (authorization or b"").decode("latin-1").partition(" ")
        issued = self._issued.get(token)
        if kind.lower() != "bearer" or issued is None or self._clock.now() >= issued.expires_at:
            return None
        return issued.account

    def revoke(self) -> None:
        """Ends every access token that was given."""
        self._issued.clear()

    async def start(self, host: str, port: int) -> int:
        """The port that it listens on."""
        app = web.Application(client_max_size=BODY_MAX)
        app.add_routes([web.post("/token", self._token)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        try:
            tls = self._identity.tls(("http/1.1",))
            await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Ends when it no longer listens."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _token(self, request: web.Request) -> web.Response:
        self.requests += 1
        script = self.scripts.popleft() if self.scripts else self.always
        if script is not None:
            await asyncio.sleep(script.delay_s)
            return web.Response(status=script.status, body=script.body, content_type="application/json")
        if request.content_type != FORM:
            return _error("invalid_request")
        form = await request.post()
        if form.get("grant_type") != GRANT:
            return _error("unsupported_grant_type")
        account = self._verify(str(form.get("assertion", "")))
        if account is None:
            return _error("invalid_grant")
        token = "ya29." + secrets.token_urlsafe(120)
        self._issued[token] = _Issued(account, self._clock.now() + self.lifetime_s)
        self.granted += 1
        answer = {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer"}
        return web.json_response(answer)

    def _verify(self, text: str) -> Account | None:
        """The account whose assertion this is (RFC 7523 section 3)."""
        signed, _, signature = text.rpartition(".")
        head, _, body = signed.partition(".")
        try:
            header = msgspec.json.decode(_unbase64(head), type=_Header)
            claims = msgspec.json.decode(_unbase64(body), type=_Claims)
            raw = _unbase64(signature)
        except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, UnicodeEncodeError):
            return None
        account, now = self.accounts.get(claims.iss), self._clock.now()
        if account is None or (header.alg, header.kid) != ("RS256", account.key_id) or claims.aud != AUDIENCE:
            return None
        timely = claims.iat <= now + SKEW_S and claims.exp > now and 0 < claims.exp - claims.iat <= LIFETIME_MAX_S
        if not timely or not set(claims.scope.split()) & SCOPES:
            return None
        try:
            account.public_key.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return None
        return account


def _account(directory: Path, project_id: str, email: str) -> Account:
    path = directory / f"{email.partition('@')[0]}.{project_id}.json"
    if path.exists():
        key_file: dict[str, str] = orjson.loads(path.read_bytes())
        key = serialization.load_pem_private_key(key_file["private_key"].encode(), password=None)
    else:
        key = rsa.generate_private_key(65537, 2048)
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        key_file = {
            "type": "service_account",
            "project_id": project_id,
            "private_key_id": secrets.token_hex(20),
            "private_key": pem,
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": AUDIENCE,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email.replace('@', '%40')}",
            "universe_domain": "googleapis.com",
        }
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps(key_file, option=orjson.OPT_INDENT_2))
    assert isinstance(key, rsa.RSAPrivateKey)
    return Account(project_id, email, key_file["private_key_id"], key.public_key(), key_file)


def _error(code: str) -> web.Response:
    return web.json_response({"error": code, "error_description": "Invalid request."}, status=400)


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
