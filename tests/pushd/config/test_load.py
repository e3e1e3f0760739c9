"""Configuration: layers, their order, and errors that name the place."""

import re
import tomllib

import pytest

from pushd.config import Config
from pushd.config.load import describe, load, sample
from pushd.errors import ConfigError


def write(path, text):
    path.write_text(text)
    return path


def test_layers_override_in_order_and_say_where_values_came_from(tmp_path):
    file = write(tmp_path / "pushd.toml", "[http]\nport = 1\nhost = '0.0.0.0'\n[fanout]\nattempts_max = 3\n")
    (tmp_path / "pushd.toml.d").mkdir()
    drop_in = write(tmp_path / "pushd.toml.d" / "10.toml", "[http]\nport = 2\n")
    environ = {"PUSHD__HTTP__KEEPALIVE_TIMEOUT_S": "9.5", "PUSHD__FANOUT__ATTEMPTS_MAX": "4"}
    loaded = load(file, environ, {"store.data_dir": "/data"})
    config = loaded.config
    assert (config.http.port, config.http.host, config.http.keepalive_timeout_s) == (2, "0.0.0.0", 9.5)
    assert (config.fanout.attempts_max, config.store.data_dir) == (4, "/data")
    assert loaded.origins["http.port"] == str(drop_in)
    assert loaded.origins["http.host"] == str(file)
    assert loaded.origins["fanout.attempts_max"] == "PUSHD__FANOUT__ATTEMPTS_MAX"
    assert loaded.origins["store.data_dir"] == "--data-dir"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nprot = 1\n", r"pushd\.toml: http\.prot is not a setting; did you mean http\.port\?"),
        ("[fan]\nattempts_max = 1\n", r"fan\.attempts_max is not a setting; did you mean fanout\.attempts_max\?"),
        ("[http]\nport = 'x'\n", r"pushd\.toml: http\.port: Expected `int`, got `str`"),
        ("[http\n", r"pushd\.toml: .*line 1"),
    ],
)
def test_errors_name_file_key_and_the_nearest_known_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path / "pushd.toml", text), {})


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "none.toml"))):
        load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"STATE_DIRECTORY": "/var/lib/pushd", "HOME": "/root"}, "/var/lib/pushd"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/pushd"),
        ({"HOME": "/h"}, "/h/.local/share/pushd"),
    ],
)
def test_the_data_directory_follows_systemd_then_the_user(tmp_path, monkeypatch, environ, directory):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    file = write(tmp_path / "pushd.toml", "")
    assert load(file, environ).config.store.data_dir == directory


def test_the_sample_is_the_default_configuration(tmp_path):
    text = sample()
    settings = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    file = write(tmp_path / "pushd.toml", settings)
    assert set(tomllib.loads(settings)) == {name.split(".")[0] for name, _ in describe(Config())}
    loaded = load(file, {"STATE_DIRECTORY": ""}, {"store.data_dir": Config().store.data_dir or "/x"})
    assert dict(describe(loaded.config)) == {**dict(describe(Config())), "store.data_dir": loaded.config.store.data_dir}


def test_tls_hosts_are_tables(tmp_path):
    text = "[http]\ntls_port = 8443\n[[http.tls]]\ncertificate_file = 'c'\nkey_file = 'k'\nnames = ['a.example']\n"
    config = load(write(tmp_path / "pushd.toml", text), {}).config
    assert config.http.tls[0].names == ["a.example"]


def test_root_keeps_its_state_where_the_system_does(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load(write(tmp_path / "pushd.toml", ""), {"HOME": "/root"}).config.store.data_dir == "/var/lib/pushd"


def test_variables_hold_lists_and_tables_as_json(tmp_path):
    environ = {"HOME": str(tmp_path), "PUSHD__WEBPUSH__HOSTS_ADDED": '["push.example.com", "localhost:8443"]'}
    assert load(None, environ).config.webpush.hosts_added == ("push.example.com", "localhost:8443")
    for text in ("[1, 2", "{"):
        with pytest.raises(ConfigError, match="HOSTS_ADDED is neither a word nor JSON"):
            load(None, environ | {"PUSHD__WEBPUSH__HOSTS_ADDED": text})
