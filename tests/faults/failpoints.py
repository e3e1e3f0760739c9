"""`pushd` that kills itself at a named point: `FAIL_POINT=NAME:HIT python -m tests.faults.failpoints serve`.

The product knows nothing of it. This module wraps the function that a point names, counts how often it is reached, and
sends SIGKILL to its own process at the given hit: no handler, no flush, no goodbye, as kill -9 from outside.
"""

import asyncio
import functools
import importlib
import inspect
import os
import signal
from enum import Enum
from typing import NamedTuple

VARIABLE = "FAIL_POINT"
DURING_S = 0.001
"""After which a call that was begun is cut off: long enough for a statement to be on its way."""


class When(Enum):
    """Where a call is cut off."""

    BEFORE = "before"
    DURING = "during"
    """Once it has begun, wherever it then is."""
    AFTER = "after"


class Point(NamedTuple):
    """A place in the daemon's code."""

    place: str
    """`module:Class.function`."""
    when: When
    counts: object = None
    """Which calls count, given the arguments (before) or the result (after); none: all of them."""


STORE, FANOUT = "pushd.store.notifications:NotificationStore", "pushd.fanout.engine:Fanout"
ACCEPTS = "pushd.store.accepts:Acceptor"
SETTLEMENTS, APNS = "pushd.store.settlements:SettlementStore", "pushd.gateways.apns:ApnsGateway"
LINK, NODE = "pushd.transport.link:Link", "pushd.cluster.node:Node"


def _finishes(_, settlement, *rest):
    return bool(settlement.finished)


def _retires(_, settlement, *rest):
    return bool(settlement.retired)


POINTS = {
    "before-accept-commit": Point(f"{ACCEPTS}._write", When.BEFORE),
    "during-accept-commit": Point(f"{ACCEPTS}._write", When.DURING),
    "after-accept-commit": Point(f"{ACCEPTS}._write", When.AFTER),
    "before-release": Point(f"{FANOUT}.release", When.BEFORE),
    "after-release": Point(f"{FANOUT}.release", When.AFTER),
    "before-attempted-commit": Point(f"{SETTLEMENTS}.attempted", When.BEFORE),
    "during-attempted-commit": Point(f"{SETTLEMENTS}.attempted", When.DURING),
    "after-attempted-commit": Point(f"{SETTLEMENTS}.attempted", When.AFTER),
    "before-rows-go-to-a-link": Point(f"{APNS}.send", When.BEFORE),
    "after-rows-went-to-a-link": Point(f"{LINK}.pump", When.AFTER, bool),
    "before-answers-are-read": Point(f"{LINK}.data_received", When.BEFORE),
    "after-answers-were-read": Point(f"{LINK}.data_received", When.AFTER),
    "before-settlement-commit": Point(f"{SETTLEMENTS}.settle", When.BEFORE),
    "during-settlement-commit": Point(f"{SETTLEMENTS}.settle", When.DURING),
    "after-settlement-commit": Point(f"{SETTLEMENTS}.settle", When.AFTER),
    "before-the-ledger-moves": Point(f"{FANOUT}._committed", When.BEFORE),
    "after-the-ledger-moved": Point(f"{FANOUT}._committed", When.AFTER),
    "before-tokens-are-retired": Point(f"{SETTLEMENTS}.settle", When.BEFORE, _retires),
    "before-the-finish": Point(f"{SETTLEMENTS}.settle", When.BEFORE, _finishes),
    "during-the-finish": Point(f"{SETTLEMENTS}.settle", When.DURING, _finishes),
    "before-compaction": Point(f"{SETTLEMENTS}.compact", When.BEFORE),
    "during-compaction": Point(f"{SETTLEMENTS}.compact", When.DURING),
    "after-compaction": Point(f"{SETTLEMENTS}.compact", When.AFTER),
    "node-locked-and-not-entered": Point(f"{NODE}._hold", When.AFTER),
    "before-the-claim": Point(f"{STORE}.resumable", When.BEFORE),
    "during-the-claim": Point(f"{STORE}.resumable", When.DURING),
    "after-the-claim": Point(f"{STORE}.resumable", When.AFTER, bool),
    "before-resume": Point(f"{FANOUT}.resume", When.BEFORE),
    "after-resume": Point(f"{FANOUT}.resume", When.AFTER),
}
"""Every point by name. A takeover by a node that is up goes through the claim and resume, too."""
_SCHEDULES, _ROLLOUTS = "pushd.store.schedules:ScheduleStore", "pushd.store.rollouts:RolloutStore"
_STARTER, _OPENER = "pushd.scheduler.firing:Starter", "pushd.scheduler.opening:Opener"
SCHEDULING = {
    "before-firing-is-prepared": Point(f"{_STARTER}.prepare", When.BEFORE),
    "before-fire-commit": Point(f"{_SCHEDULES}.fire", When.BEFORE),
    "during-fire-commit": Point(f"{_SCHEDULES}.fire", When.DURING),
    "after-fire-commit": Point(f"{_SCHEDULES}.fire", When.AFTER),
    "before-what-was-fired-starts": Point(f"{_STARTER}.start", When.BEFORE),
    "after-what-was-fired-started": Point(f"{_STARTER}.start", When.AFTER),
    "before-open-commit": Point(f"{_ROLLOUTS}.open", When.BEFORE),
    "during-open-commit": Point(f"{_ROLLOUTS}.open", When.DURING),
    "after-open-commit": Point(f"{_ROLLOUTS}.open", When.AFTER),
    "before-what-was-opened-starts": Point(f"{_OPENER}.start", When.BEFORE),
    "after-what-was-opened-started": Point(f"{_OPENER}.start", When.AFTER),
}
"""Points on the way of what is scheduled."""
_IN_APP = "pushd.store.in_app_firings:InAppFirer"
IN_APP = {
    f"{when.value}-in-app-{name}-commit": Point(f"{_IN_APP}.{name}", when) for name in ("fire", "open") for when in When
}
"""Points on the way of in-app messages that are scheduled."""
AT_START = frozenset(
    {
        "node-locked-and-not-entered",
        "before-the-claim",
        "during-the-claim",
        "after-the-claim",
        "before-resume",
        "after-resume",
    }
)
"""Points that a start reaches before it is ready, if something was left to go on with."""
OFTEN = {"accept": 20, "release": 20, "settlement": 20, "ledger": 20, "attempted": 5, "link": 20, "answers": 40}
"""How many hits may be waited for, by a word of the point's name: what comes often is struck early or late."""


def hits_max(name):
    """The highest hit at which a point is reached in a fan-out for sure."""
    return 1 if name in AT_START else next((hits for word, hits in OFTEN.items() if word in name), 1)


def arm(text, end=None):
    """Wraps the function of a point, given as `name:hit`; `end` is called in place of the kill."""
    name, _, hit = text.partition(":")
    point = (POINTS | SCHEDULING | IN_APP)[name]
    owner, attribute = _find(point.place)
    countdown = _Countdown(int(hit or 1), end or _end)
    setattr(owner, attribute, _wrapped(getattr(owner, attribute), point, countdown))


class _Countdown:
    def __init__(self, hits, end):
        self._left = hits
        self._end = end

    def reached(self):
        """Whether this is the hit."""
        self._left -= 1
        return self._left == 0

    def end(self):
        self._end()


def _wrapped(function, point, countdown):
    counts = point.counts or (lambda *_: True)

    def enter(arguments):
        if point.when is When.AFTER or not counts(*arguments) or not countdown.reached():
            return
        if point.when is When.BEFORE:
            countdown.end()
        else:
            asyncio.get_running_loop().call_later(DURING_S, countdown.end)

    def leave(result):
        if point.when is When.AFTER and counts(result) and countdown.reached():
            countdown.end()
        return result

    @functools.wraps(function)
    def call(*arguments, **named):
        enter(arguments)
        return leave(function(*arguments, **named))

    @functools.wraps(function)
    async def call_and_wait(*arguments, **named):
        enter(arguments)
        return leave(await function(*arguments, **named))

    return call_and_wait if inspect.iscoroutinefunction(function) else call


def _find(place):
    module, _, path = place.partition(":")
    *above, attribute = path.split(".")
    return functools.reduce(getattr, above, importlib.import_module(module)), attribute


def _end():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from pushd.cli import main

    if os.environ.get(VARIABLE):
        arm(os.environ[VARIABLE])
    main()
