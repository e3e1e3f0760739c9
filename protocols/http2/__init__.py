"""A pure HTTP/2 client connection made for fan-out: runs of requests in, columns of answers out."""

from protocols.http2.bodies import Bodies
from protocols.http2.connection import Connection
from protocols.http2.frames import ErrorCode
from protocols.http2.plans import Field, HeaderPlan, Indexing, Variable
from protocols.http2.requests import Columns
from protocols.http2.results import Answers, ConnectionBrokenError, GoAway, Received
from protocols.http2.runs import Run
from protocols.http2.settings import ConnectionSettings

__all__ = [
    "Answers",
    "Bodies",
    "Columns",
    "Connection",
    "ConnectionBrokenError",
    "ConnectionSettings",
    "ErrorCode",
    "Field",
    "GoAway",
    "HeaderPlan",
    "Indexing",
    "Received",
    "Run",
    "Variable",
]
