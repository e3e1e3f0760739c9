"""Parameters in the query of Gravitec's calls, also of those that others make with bodies."""

from __future__ import annotations

from urllib.parse import parse_qsl

from pushd.errors import Fault, InvalidRequestError, PushdError
from pushd.web.incoming import Incoming

NAME_CHARS_MAX = 255
_PARAMETERS = {"regId": "String ", "name": "String ", "campaignID": ""}


class MissingParameterError(PushdError):
    """A parameter of the query is not there; the answer is a line of text (G7)."""

    code, status, title = "missing_parameter", 400, "A parameter is missing"


def parameters(incoming: Incoming) -> dict[str, str]:
    """Parameters of the query; names have case, and the first of several counts."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(incoming.raw_query, keep_blank_values=True):
        found.setdefault(name, value)
    return found


def follower(incoming: Incoming, quotes: str = '"') -> str:
    """The follower that is named; MissingParameterError."""
    return _required(incoming, "regId", quotes)


def name_of(incoming: Incoming) -> str:
    """The tag or alias that is named; MissingParameterError, InvalidRequestError."""
    name = _required(incoming, "name", '"')
    if len(name) > NAME_CHARS_MAX:
        raise InvalidRequestError("Max alias length is 255!", faults=[Fault("name", "is longer than 255 characters")])
    return name


def missing(name: str, quotes: str = '"') -> MissingParameterError:
    """What is said of a parameter that is not there."""
    return MissingParameterError(f"Required {_PARAMETERS[name]}parameter {quotes}{name}{quotes} is not present")


def _required(incoming: Incoming, name: str, quotes: str) -> str:
    value = parameters(incoming).get(name, "")
    if not value:
        raise missing(name, quotes)
    return value
