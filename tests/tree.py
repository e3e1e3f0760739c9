"""Writes the map of modules into pushd/README.md: `python -m tests.tree`. The tidy test says when it is due."""

from tests.test_tidy import ROOT, tree

README = ROOT / "pushd" / "README.md"
FENCE = "```"


def write() -> None:
    head = README.read_text().split(FENCE + "text\n")[0]
    README.write_text(f"{head}{FENCE}text\n{tree()}\n{FENCE}\n")


if __name__ == "__main__":
    write()
