"""npm packages that tests compare with, at pinned versions, installed by name into a cache of their own."""

import json
import subprocess
from pathlib import Path

CACHE = Path(__file__).parent / ".cache"


def modules(package):
    """The folder from which node finds this package, such as "http_ece@1.2.1"."""
    home = CACHE / package.replace("@", "-").replace("/", "-").lstrip("-")
    if not (home / "installed").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"name": "oracles", "private": True}))
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", package]
        subprocess.run(command, cwd=home, check=True)
        (home / "installed").touch()
    return home
