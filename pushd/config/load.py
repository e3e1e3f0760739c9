"""Reads the configuration: file and drop-ins, then the environment, then flags; each value with where it came from."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pushd.config import Config
from pushd.errors import ConfigError

ENV_PREFIX = "PUSHD__"
"""`PUSHD__HTTP__PORT=8080` sets `http.port`. Secrets are files, so none of them can be set this way."""
DEFAULT_PATH = Path("/etc/pushd/pushd.toml")

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and for every key that was set where its value came from."""

    config: Config
    origins: dict[str, str]


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration of a file (`None`: the default one, which may be absent), its drop-ins, environment and flags.

    Flags are dotted names such as `http.port`. ConfigError names file, key and the nearest known key.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, values in _layers(path, environ, flags or {}):
        for key, value in _leaves(values):
            _check_known(key, source)
            _put(merged, key, value)
            origins[".".join(key)] = source
    if not merged.get("store", {}).get("data_dir"):
        _put(merged, ("store", "data_dir"), _state_directory(environ))
    try:
        config = msgspec.convert(merged, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_blame(str(error), origins)) from None
    return Loaded(config, origins)


def describe(config: Config) -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted name, value), in the order of the sections."""
    yield from _flatten((), msgspec.to_builtins(config))


def sample() -> str:
    """A configuration file with every setting at its default, as comments."""
    lines = ["# pushd's settings, each at its default. Uncomment what you change."]
    for section, values in msgspec.to_builtins(Config()).items():
        lines += ["", f"[{section}]"]
        lines += [f"# {name} = {_toml(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _layers(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    file = path or DEFAULT_PATH
    if path is not None or file.exists():
        yield str(file), _read(file)
        for extra in sorted(file.with_name(file.name + ".d").glob("*.toml")):
            yield str(extra), _read(extra)
    for name, text in sorted(environ.items()):
        if name.startswith(ENV_PREFIX):
            nested: dict[str, Any] = {}
            _put(nested, tuple(name[len(ENV_PREFIX) :].lower().split("__")), _of_environment(name, text))
            yield name, nested
    for name, value in flags.items():
        nested = {}
        _put(nested, tuple(name.split(".")), value)
        yield "--" + name.rsplit(".", 1)[-1].replace("_", "-"), nested


def _of_environment(name: str, text: str) -> Any:
    """The value that a variable holds: lists and tables are written as JSON."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name} is neither a word nor JSON: {error}") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {error}") from None


def _leaves(values: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and len(above) < 1:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _flatten(above: Key, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _flatten((*above, name), value)
    else:
        yield ".".join(above), values


def _put(into: dict[str, Any], key: Key, value: Any) -> None:
    for name in key[:-1]:
        into = into.setdefault(name, {})
    into[key[-1]] = value


def _known() -> list[str]:
    return [
        f"{section.encode_name}.{setting.encode_name}"
        for section in msgspec.structs.fields(Config)
        for setting in msgspec.structs.fields(section.type)
    ]


def _check_known(key: Key, source: str) -> None:
    name = ".".join(key)
    if name in (known := _known()):
        return
    near = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(
        key[-1], [each.split(".")[1] for each in known], 1
    )
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{source}: {name} is not a setting{hint}")


def _blame(problem: str, origins: Mapping[str, str]) -> str:
    for name, source in origins.items():
        if f"$.{name}" in problem:
            return f"{source}: {name}: {problem.split(' - at', maxsplit=1)[0]}"
    return problem


def _state_directory(environ: Mapping[str, str]) -> str:
    """Where systemd says that state goes, else the system's place for root and the user's own for others."""
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    if os.geteuid() == 0 and not environ.get("XDG_DATA_HOME"):
        return "/var/lib/pushd"
    base = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "/var/lib")) / ".local/share")
    return str(Path(base) / "pushd")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)
