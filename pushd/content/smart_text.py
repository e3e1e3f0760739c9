"""Smart text, the simpler way to write gaps (`{Users.name}`, `{place}`), as the Liquid that means the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

_GAP = re.compile(r"\{(?P<users>Users\.)?(?P<name>[A-Za-z_][A-Za-z0-9_-]{0,99})\}")
_LIQUID = re.compile(r"\{(?=[{%])|\{$")
USERS = "user"


def to_liquid(text: str) -> str:
    """The Liquid of a smart text; what looks like Liquid in it stays the text that it is."""
    out, at = [], 0
    for gap in _GAP.finditer(text):
        out.append(literal(text[at : gap.start()]))
        out.append(f"{{{{ {USERS}.{gap['name']} }}}}" if gap["users"] else f"{{{{ {gap['name']} }}}}")
        at = gap.end()
    out.append(literal(text[at:]))
    return "".join(out)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A smart text with those of its gaps filled for which there is a value; what is known of users stays open."""
    return _GAP.sub(lambda gap: gap[0] if gap["users"] else values.get(gap["name"], gap[0]), text)


def literal(text: str) -> str:
    """A text that Liquid leaves as it is: braces that could open something are put out as values."""
    return _LIQUID.sub("{{ '{' }}", text)
