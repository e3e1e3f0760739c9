"""What templates cost, hostile ones included: time and memory of each, from its parsing to its end or its refusal.

The ratio is the time that the slowest hostile template takes, as a share of the 20 ms that anything may hold the event
loop. Memory is what Python allocates at the most. Ordinary templates are there to compare: parsed once, rendered often.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from typing import Any

from tests.hostile_templates import HOSTILE, VALUES

LOOP_MS = 20.0
ORDINARY = {
    "a name": "Hello {{ user.first_name | default: 'you' }}",
    "filters": "{{ user.first_name | upcase | truncate: 20 }}, {{ 'now' | date: '%d.%m.' }}",
    "a condition": "{% if user.points > 500 %}many{% else %}few{% endif %} of {{ user.points }}",
    "a loop": "{% for each in items %}{{ forloop.index }}. {{ each.name }} {% endfor %}",
}
_READ = {
    "user": {"first_name": "Ada", "points": 700},
    "items": [{"name": f"thing {number}"} for number in range(10)],
}


def run(quick: bool) -> dict[str, Any]:
    """The figures; a few seconds."""
    from pushd.content.liquid import parse

    rounds = 5 if quick else 20
    rows = []
    for name, source in HOSTILE.items():
        times = [_once(source) for _ in range(rounds)]
        rows.append({"template": name, "ms": statistics.median(times), "memory_mb": _memory(source) / 1e6})
    rows.sort(key=lambda row: row["ms"], reverse=True)
    ordinary = []
    for name, source in ORDINARY.items():
        parsed = parse(source)
        began = time.process_time()
        for _ in range(rounds * 500):
            parsed.render(_READ, 0.0)
        ordinary.append(
            {"template": name, "ms": (time.process_time() - began) / (rounds * 500) * 1e3, "memory_mb": 0.0}
        )
    return {
        "ratio": rows[0]["ms"] / LOOP_MS,
        "target": f"of {LOOP_MS:.0f} ms, by the slowest of {len(rows)} hostile templates; below 1",
        "table": [*rows[:12], *ordinary],
        "slowest_ms": rows[0]["ms"],
        "most_memory_mb": max(row["memory_mb"] for row in rows),
        **{f"{row['template'].replace(' ', '_')}_us": row["ms"] * 1e3 for row in ordinary},
    }


def _once(source: str) -> float:
    """Milliseconds of CPU from a template to its end."""
    from pushd.content.liquid import forget

    forget()
    began = time.process_time()
    _try(source)
    return (time.process_time() - began) * 1e3


def _memory(source: str) -> int:
    from pushd.content.liquid import forget

    forget()
    tracemalloc.start()
    _try(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _try(source: str) -> bool:
    """Whether something came out."""
    from pushd.content.liquid import TemplateError, parse

    try:
        parse(source).render(VALUES, 0.0)
    except TemplateError:
        return False
    return True
