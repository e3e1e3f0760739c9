"""The dialects beside each other: no path and no host is two's, and none of them has grown thick."""

import re

import pytest

from pushd.dialects.mount import DIALECTS
from tests.dialect_pages import calls
from tests.test_tidy import ROOT

LINES_MAX = 250
FOLDER = ROOT / "pushd" / "dialects"
VALUES = {"app_id": "D31F2737-2549-309B-FF00-4B7E5E0A1F00", "api_key": "0A1B", "id": "7", "uuid": "news"}


def filled(path):
    return re.sub(r"\{(\w+)\}", lambda found: VALUES.get(found[1], "x"), path)


@pytest.mark.parametrize("name", list(DIALECTS))
def test_every_path_is_one_dialects_alone(name):
    for call in calls(DIALECTS[name]):
        path = filled(call.path)
        if path.startswith("/api/") and name == "backendless":  # on hosts that the configuration gives to it
            continue
        owners = [each for each, dialect in DIALECTS.items() if dialect.owns_path(dialect.__new__(dialect), path)]
        assert owners == [name], path


def test_every_host_is_one_dialects_alone():
    hosts = [host for dialect in DIALECTS.values() for host in dialect.hosts]
    assert len(hosts) == len(set(hosts)) > 0


@pytest.mark.parametrize(
    "path", ["/", "/pushd/v1/notifications", "/healthz", "/readyz", "/metrics", "/console", "/api"]
)
def test_pushds_own_paths_are_no_dialects(path):
    assert not [each for each, dialect in DIALECTS.items() if dialect.owns_path(dialect.__new__(dialect), path)]


def test_no_module_is_long():
    lengths = {
        path: len(path.read_text().splitlines()) for path in FOLDER.rglob("*.*") if path.suffix in {".py", ".js"}
    }
    assert len(lengths) > 40
    assert {str(path): length for path, length in lengths.items() if length > LINES_MAX} == {}
