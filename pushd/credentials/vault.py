"""Sealing of gateway secrets with the installation's master key (AES-256-GCM, NIST SP 800-38D)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
import struct
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pushd.config import SecretsConfig
from pushd.errors import ConfigError

log = structlog.get_logger(__name__)

KEY_BYTES = 32
FILE_NAME = "master_key"
"""The name in systemd's credentials directory (LoadCredential=master_key:…) and in the data directory."""

_VERSION = 1
_HEADER = struct.Struct(">B4s12s")
"""Version, which key sealed it, nonce; ciphertext and tag follow."""
_FILE_BYTES_MAX = 1024


class Vault:
    """Seals and opens secrets. A sealed secret opens only under the app and credential that it was sealed for."""

    __slots__ = ("_cipher", "_key_id")

    def __init__(self, master_key: bytes, purpose: bytes = b"gateway credentials") -> None:
        """For secrets of one purpose: what another vault sealed does not open, under whatever ids."""
        assert len(master_key) == KEY_BYTES
        key = subkey(master_key, purpose)
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"pushd key id" + key).digest()[:4]

    def seal(self, app_id: int, credential_id: int, plaintext: bytes) -> bytes:
        """The plaintext, encrypted for this credential of this app."""
        nonce = secrets.token_bytes(12)
        header = _HEADER.pack(_VERSION, self._key_id, nonce)
        return header + self._cipher.encrypt(nonce, plaintext, _bound_to(header, app_id, credential_id))

    def open(self, app_id: int, credential_id: int, sealed: bytes) -> bytes:
        """The plaintext of what `seal` made; ConfigError says why it cannot be had."""
        named = f"credential {credential_id} of app {app_id}"
        if len(sealed) < _HEADER.size or sealed[0] != _VERSION:
            raise ConfigError(f"{named} is sealed in a form that this version of pushd does not know")
        header = sealed[: _HEADER.size]
        _, key_id, nonce = _HEADER.unpack(header)
        if key_id != self._key_id:
            raise ConfigError(f"{named} was sealed with another master key; restore that key, or upload it again")
        try:
            return self._cipher.decrypt(nonce, sealed[_HEADER.size :], _bound_to(header, app_id, credential_id))
        except InvalidTag:
            raise ConfigError(f"{named} is damaged in the store, or was moved there from another one") from None


def _bound_to(header: bytes, app_id: int, credential_id: int) -> bytes:
    # The associated data: a sealed secret copied to another row, or with another header, does not open.
    return header + struct.pack(">QQ", app_id, credential_id)


def subkey(master_key: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes for one purpose, so that no two uses share the master key itself (HKDF, RFC 5869)."""
    return HKDFExpand(algorithm=hashes.SHA256(), length=KEY_BYTES, info=b"pushd " + purpose).derive(master_key)


def load_master_key(config: SecretsConfig, data_dir: str, credentials_dir: str | None) -> bytes:
    """The master key: of the configured file, else of the credentials directory, else of the data directory.

    In the data directory it is made once, with mode 0600. ConfigError says what is wrong, never what was read.
    """
    if config.master_key_file:
        return _read(Path(config.master_key_file))
    if credentials_dir and (given := Path(credentials_dir) / FILE_NAME).exists():
        return _read(given)
    own = Path(data_dir) / FILE_NAME
    if not own.exists():
        _make(own)
    return _read(own)


def parse_master_key(text: bytes) -> bytes:
    """32 bytes from hex, base64, base64url or as they are; ValueError for anything else."""
    compact = b"".join(text.split())
    if compact.isascii():
        if len(compact) == 2 * KEY_BYTES:
            return binascii.unhexlify(compact)
        alphabet = compact.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
        key = base64.b64decode(alphabet + b"=" * (-len(alphabet) % 4), validate=True)
    else:
        key = text
    if len(key) != KEY_BYTES:
        raise ValueError(f"{len(key)} bytes")
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(f"the master key file {path} cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        log.warning("master_key_file_open_to_others", path=str(path), mode=oct(stat.S_IMODE(mode)))
    key: bytes | None = None
    if len(text) <= _FILE_BYTES_MAX:
        try:
            key = parse_master_key(text)
        except ValueError:
            key = None  # said below, outside of what may quote the text
    if key is None:
        raise ConfigError(f"the master key file {path} does not hold {KEY_BYTES} bytes in base64 or hex")
    return key


def _make(path: Path) -> None:
    # Written beside and linked into place: the file is never seen half, and of two processes one wins.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(beside)
            log.info("master_key_made", path=str(path))
        except FileExistsError:
            pass
    finally:
        beside.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
