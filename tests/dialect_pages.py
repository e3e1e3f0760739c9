"""Writes the tables of calls into the pages of the dialects, from their routes: `python -m tests.dialect_pages`."""

from pushd.dialect import Call
from pushd.dialects.mount import DIALECTS
from tests.test_tidy import ROOT

DOCS = ROOT / "pushd" / "docs"
BEGIN, END = "<!-- calls -->\n", "<!-- end of calls -->\n"


def calls(dialect) -> tuple[Call, ...]:
    """What it answers; the handlers need no daemon to be named."""
    return dialect.calls(dialect.__new__(dialect))


def table(dialect) -> str:
    """One line a call."""
    lines = ["| call | what it does |", "|---|---|"]
    lines += [f"| `{call.method} {call.path}` | {call.summary} |" for call in calls(dialect)]
    return "\n".join(lines) + "\n"


def written(name) -> str:
    """The page with its table made anew."""
    page = (DOCS / f"{name}.md").read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + table(DIALECTS[name]) + END + tail


if __name__ == "__main__":
    for each in DIALECTS:
        (DOCS / f"{each}.md").write_text(written(each))
