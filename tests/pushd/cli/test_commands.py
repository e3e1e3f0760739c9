"""Commands that need no daemon, and the errors of those that do."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pushd.scheduler.zones import database


def pushd(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "pushd", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


def test_help_names_every_command():
    text = pushd("--help").stdout
    names = [
        "up",
        "serve",
        "demo",
        "simulate",
        "send",
        "device",
        "app",
        "key",
        "gateway",
        "audience",
        "geofence",
        "channel",
        "segment",
        "import",
        "config",
        "live-activity-channel",
        "notification",
        "report",
        "schedule",
    ]
    assert all(f" {name} " in text for name in [*names, "migrate", "doctor"]), text


def test_config_show_says_where_values_come_from(tmp_path):
    file = tmp_path / "pushd.toml"
    file.write_text("[http]\nport = 9\n")
    done = pushd("config", "show", "--config", str(file), "--origin", "--json", PUSHD__HTTP__HOST="::1")
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    assert rows["http.port"] == {"setting": "http.port", "value": 9, "origin": str(file)}
    assert rows["http.host"] == {"setting": "http.host", "value": "::1", "origin": "PUSHD__HTTP__HOST"}
    assert rows["fanout.attempts_max"]["origin"] == "default"


def test_a_wrong_configuration_is_one_line_and_a_status(tmp_path):
    file = tmp_path / "pushd.toml"
    file.write_text("[http]\nprot = 9\n")
    done = pushd("config", "check", "--config", str(file))
    assert done.returncode == 1
    assert done.stderr == f"pushd: {file}: http.prot is not a setting; did you mean http.port?\n"


def test_the_sample_is_valid(tmp_path):
    file = tmp_path / "pushd.toml"
    file.write_text(pushd("config", "sample").stdout)
    assert pushd("config", "check", "--config", str(file)).returncode == 0


def test_a_command_without_a_daemon_says_so(tmp_path):
    key = tmp_path / "key"
    key.write_text("pushd_admin_x")
    done = pushd("app", "list", "--key-file", str(key), "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "no answer from http://127.0.0.1:9/pushd/v1" in done.stderr
    assert "pushd_admin_x" not in done.stderr


def test_a_missing_key_file_is_named(tmp_path):
    done = pushd("app", "list", "--key-file", str(tmp_path / "none"))
    assert done.returncode == 1
    assert f"{tmp_path / 'none'}: No such file" in done.stderr


@pytest.mark.parametrize(
    ("options", "expression"),
    [
        (["--broadcast"], {"type": "broadcast"}),
        (["--user", "a", "--user", "b"], {"type": "users", "ids": ["a", "b"]}),
        (
            ["--user", "a", "--device", "4", "--tag", "x", "--exclude", "y"],
            {
                "type": "and",
                "of": [
                    {"type": "or", "of": [{"type": "users", "ids": ["a"]}, {"type": "devices", "ids": [4]}]},
                    {"type": "tags", "any": ["x"], "all": [], "exclude": ["y"]},
                ],
            },
        ),
    ],
)
def test_options_make_an_audience(options, expression):
    import typer
    from typer.testing import CliRunner

    from pushd.cli.audience import Whom
    from pushd.cli.options import grouped

    seen = []
    program = typer.Typer()

    @program.command()
    @grouped
    def probe(whom: Whom) -> None:
        seen.append(whom.expression())

    assert CliRunner().invoke(program, options).exit_code == 0
    assert seen == [expression]


@pytest.fixture
def state():
    """A directory that PostgreSQL's own user can pass when the tests run as root."""
    directory = Path(tempfile.mkdtemp(prefix="pushd-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_doctor_and_migrate_work_on_a_fresh_directory(state):
    data = state / "data"
    before = pushd("doctor", "--data-dir", str(data), "--json")
    checks = {row["check"]: row for row in json.loads(before.stdout)}
    assert checks["PostgreSQL"]["ok"] is True
    assert checks["time zones"]["detail"] == f"{database().version} ({database().source})"
    done = pushd("migrate", "--data-dir", str(data), "--json")
    assert done.returncode == 0, done.stderr
    assert all(row["applied"] for row in json.loads(done.stdout))
    made = json.loads(pushd("key", "admin", "--data-dir", str(data), "--json").stdout)
    assert made["secret"].startswith("pushd_admin_")
    data.chmod(0o755)
    found = pushd("doctor", "--data-dir", str(data), "--json")
    rows = {row["check"]: row for row in json.loads(found.stdout)}
    assert found.returncode == 1
    assert not rows["data directory"]["ok"]
    assert stat.S_IMODE(data.stat().st_mode) == 0o755, "it looks and changes nothing"


def test_commands_that_talk_to_a_daemon_do_not_load_one():
    code = "import sys, pushd.cli.program; print({'pushd.daemon', 'pushd.store.store'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
