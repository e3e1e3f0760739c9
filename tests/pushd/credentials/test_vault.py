"""The vault: what is sealed opens only where it belongs; the master key is found, made once, and never quoted."""

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.config import SecretsConfig
from pushd.credentials.vault import Vault, load_master_key, parse_master_key, subkey
from pushd.errors import ConfigError

KEY = bytes(range(200, 232))


@given(st.binary(max_size=500), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_round_trip(plaintext, app_id, credential_id):
    vault = Vault(KEY)
    sealed = vault.seal(app_id, credential_id, plaintext)
    assert vault.open(app_id, credential_id, sealed) == plaintext
    assert vault.seal(app_id, credential_id, plaintext) != sealed


@pytest.mark.parametrize(("app_id", "credential_id"), [(1, 3), (2, 2), (2, 1)])
def test_it_opens_for_no_other_app_or_credential(app_id, credential_id):
    vault = Vault(KEY)
    with pytest.raises(ConfigError, match="damaged"):
        vault.open(app_id, credential_id, vault.seal(1, 2, b"canary"))


def test_another_master_key_is_named_as_the_reason():
    sealed = Vault(KEY).seal(1, 2, b"canary")
    with pytest.raises(ConfigError, match="another master key"):
        Vault(bytes(32)).open(1, 2, sealed)


def test_every_changed_byte_is_noticed():
    vault = Vault(KEY)
    sealed = vault.seal(1, 2, b"canary")
    assert b"canary" not in sealed
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(ConfigError):
            vault.open(1, 2, bytes(changed))
    for size in range(len(sealed)):
        with pytest.raises(ConfigError):
            vault.open(1, 2, sealed[:size])


def test_purposes_have_keys_of_their_own():
    keys = {subkey(KEY, b"a"), subkey(KEY, b"b"), subkey(bytes(32), b"a"), KEY}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex().encode(),
        KEY.hex().upper().encode() + b"\n",
        base64.b64encode(KEY),
        base64.b64encode(KEY) + b"\r\n",
        base64.urlsafe_b64encode(KEY).rstrip(b"="),
        KEY,
        KEY[:31] + b"\n",
    ],
)
def test_the_key_is_read_in_each_form(text):
    assert parse_master_key(text) == (text if len(text) == 32 else KEY)


@pytest.mark.parametrize(
    "text", [b"", b"hunter2", b"x" * 32, b"z" * 64, base64.b64encode(KEY[:31]), KEY + b"\xff", b"\xff"]
)
def test_anything_else_is_no_key(text):
    with pytest.raises(ValueError):
        parse_master_key(text)


def written(path: Path, text: bytes, mode: int = 0o600) -> str:
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


def test_the_configured_file_comes_first_then_the_credentials_directory(tmp_path):
    first, second = bytes(32), bytes(31) + b"\x01"
    named = written(tmp_path / "k", first.hex().encode())
    given_dir = tmp_path / "creds"
    given_dir.mkdir()
    written(given_dir / "master_key", second.hex().encode(), 0o400)
    data_dir = str(tmp_path / "data")
    assert load_master_key(SecretsConfig(master_key_file=named), data_dir, str(given_dir)) == first
    assert load_master_key(SecretsConfig(), data_dir, str(given_dir)) == second
    assert not Path(data_dir).exists()


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    data_dir = tmp_path / "data"
    old = os.umask(0)
    try:
        made = load_master_key(SecretsConfig(), str(data_dir), None)
    finally:
        os.umask(old)
    assert stat.S_IMODE((data_dir / "master_key").stat().st_mode) == 0o600
    assert load_master_key(SecretsConfig(), str(data_dir), str(tmp_path / "absent")) == made
    assert [path.name for path in data_dir.iterdir()] == ["master_key"]
    assert load_master_key(SecretsConfig(), str(tmp_path / "other"), None) != made


def test_a_bad_file_is_named_and_not_quoted(tmp_path):
    path = written(tmp_path / "k", b"hunter2-hunter2")
    with pytest.raises(ConfigError) as caught:
        load_master_key(SecretsConfig(master_key_file=path), str(tmp_path), None)
    assert path in caught.value.detail
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", [b"", b"A" * 5000])
def test_empty_and_huge_files_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="does not hold"):
        load_master_key(SecretsConfig(master_key_file=written(tmp_path / "k", text)), str(tmp_path), None)


def test_a_missing_file_is_an_error_never_a_new_key(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_master_key(SecretsConfig(master_key_file=str(tmp_path / "absent")), str(tmp_path), None)


def test_a_key_open_to_others_is_warned_of(tmp_path, capsys):
    path = written(tmp_path / "k", KEY.hex().encode(), 0o644)
    assert load_master_key(SecretsConfig(master_key_file=path), str(tmp_path), None) == KEY
    out = capsys.readouterr().out
    assert "master_key_file_open_to_others" in out
    assert KEY.hex() not in out
