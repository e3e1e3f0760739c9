"""The benchmark command: finds the benchmarks, runs one, prints its table or one JSON object.

A benchmark is a module of this package with `run(quick: bool) -> dict`. Of what it returns, `ratio` is the number that
its target is stated in, `target` says that target, `figures` holds every number by name, and `table` the rows to print.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import commit, machine

RESULTS = Path(__file__).parent / "results"
NOT_BENCHMARKS = frozenset({"__main__", "measure"})


def names() -> list[str]:
    """The benchmarks that there are."""
    found = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name in NOT_BENCHMARKS or module.name.startswith("_"):
            continue
        spec = importlib.util.find_spec(f"bench.{module.name}")
        if spec and spec.origin and "\ndef run(" in Path(spec.origin).read_text():
            found.append(module.name)
    return sorted(found)


def measure(name: str, *, quick: bool, **options: int | str) -> dict[str, Any]:
    """The result of one benchmark, with commit and machine; `options` are what its `run` takes beside `quick`."""
    answer = importlib.import_module(f"bench.{name}").run(quick, **options)
    answer.pop("name", None)
    known = {key: answer.pop(key) for key in ("ratio", "target", "table", "figures") if key in answer}
    return {
        "name": name,
        "ratio": known.get("ratio"),
        "target": known.get("target", ""),
        "quick": quick,
        "figures": {**known.get("figures", {}), **answer},
        "table": known.get("table", []),
        "commit": commit(),
        "machine": machine(),
    }


def show(result: dict[str, Any]) -> None:
    """Prints a result for people."""
    console = Console()
    rows = result["table"] or [{"figure": key, "value": value} for key, value in result["figures"].items()]
    table = Table(title=result["name"], title_justify="left")
    for column in rows[0]:
        table.add_column(str(column), justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console.print(table)
    if result["ratio"] is not None:
        console.print(f"ratio {result['ratio']:.2f}  {result['target']}")
    described = result["machine"]
    console.print(f"{described['cpu']}, {described['cores']} cores, Python {described['python']}, {result['commit']}")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """The exit status: 0 for a measurement, whatever it says; 2 for no such benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Runs one benchmark of pushd.")
    parser.add_argument("name", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--quick", action="store_true", help="ends within 45 seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--save", action="store_true", help="keeps the result in bench/results")
    parser.add_argument("--devices", type=int, help="how many devices, where the benchmark has them (fanout)")
    parser.add_argument("--personalised", action="store_true", help="messages that differ by device (fanout)")
    parser.add_argument("--dialect", help="sends in the words of a hosted service, against native ones (ingest)")
    options = parser.parse_args()
    name = options.name.replace("-", "_")
    if name not in names():
        print(f"no benchmark {options.name!r}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    given: dict[str, int | str] = {} if options.devices is None else {"devices": options.devices}
    given |= {"personalised": 1} if options.personalised else {}
    given |= {"dialect": options.dialect} if options.dialect else {}
    result = measure(name, quick=options.quick, **given)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        kept = "_".join([name, *(["personalised"] if options.personalised else []), *filter(None, [options.dialect])])
        (RESULTS / f"{kept}.json").write_text(json.dumps(result, indent=2) + "\n")
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
