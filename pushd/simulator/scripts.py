"""Faults of whole connections: GOAWAY, closing, SETTINGS, windows, silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import orjson
from h2.settings import SettingCodes

from pushd.simulator.faults import (
    Close,
    ConnectionAction,
    Goaway,
    IgnorePing,
    LateSettings,
    Mute,
    Settings,
    Step,
    Window,
)
from pushd.simulator.wire import Wire

LAST_MAX = 2**31 - 1
LARGE_DEBUG = b"debug " * 2_730
"""About 16 KB, the most that fits a frame of the default size."""
BINARY_DEBUG = bytes(range(256))
FIRST_BYTES_OF_AN_ANSWER = bytes.fromhex("000001010400000001")


class Host(Protocol):
    """What a script needs of the connection that it plays on."""

    wire: Wire
    stream_credit: Window | None
    """Credit for new streams, when the announced windows are too small to live on."""

    def later(self, delay_ms: float, act: Callable[[], None]) -> None:
        """Calls `act` after so many milliseconds and flushes, unless the connection has ended."""

    def drop_above(self, last: int) -> None:
        """Answers no stream above `last`, now or later."""

    def highest_stream(self) -> int:
        """The highest stream id that was taken."""

    def give_stream_credit(self, size: int) -> None:
        """Gives every stream whose body is incomplete so much credit."""

    def end(self, why: str, *, abort: bool = False) -> None:
        """Closes the connection once what is queued was written, or at once."""


def play(host: Host, action: ConnectionAction, stream_id: int) -> None:
    """Carries out a connection's fault; `stream_id` is the request that struck it, 0 if none did."""
    match action:
        case Goaway():
            _goaway(host, action, stream_id)
        case Close():
            _close(host, action)
        case Settings():
            _settings(host, action.steps * action.repeat)
        case LateSettings():
            host.wire.hold()
            host.later(action.delay_ms, host.wire.release)
        case Window():
            _window(host, action)
        case Mute():
            host.wire.mute = True
        case IgnorePing():
            host.wire.h2.answer_pings = False


def last_stream(action: Goaway, stream_id: int, highest: int) -> int:
    """The last stream id that a GOAWAY names."""
    match action.last:
        case "max":
            return LAST_MAX
        case "seen":
            return highest
        case "before":
            return max(0, stream_id - 2)
        case "none":
            return 0
        case number:
            return number


def debug_data(action: Goaway) -> bytes:
    """The debug data of a GOAWAY."""
    return {
        "json": orjson.dumps({"reason": action.reason}),
        "text": action.reason.encode(),
        "empty": b"",
        "binary": BINARY_DEBUG,
        "large": LARGE_DEBUG,
    }[action.debug]


def _goaway(host: Host, action: Goaway, stream_id: int) -> None:
    debug = debug_data(action)
    if action.last == "before" or (isinstance(action.last, int) and action.last < stream_id):
        # Decided now, so that the request that struck is not answered while the warning stands.
        host.drop_above(last_stream(action, stream_id, stream_id))

    def send() -> None:
        last = last_stream(action, stream_id, host.highest_stream())
        host.wire.goaway(last, action.code, debug)
        host.drop_above(last)
        if action.close_after_ms is not None:
            host.later(action.close_after_ms, lambda: host.end("goaway"))

    if action.warn_ms is None:
        send()
    else:
        host.wire.goaway(LAST_MAX, action.code, debug)
        host.later(action.warn_ms, send)


def _close(host: Host, action: Close) -> None:
    def close() -> None:
        if action.how == "mid_frame":
            host.wire.raw_bytes(FIRST_BYTES_OF_AN_ANSWER[:5])
        host.end(f"close_{action.how}", abort=action.how == "abort")

    if action.after_ms:
        host.later(action.after_ms, close)
    else:
        close()


def _settings(host: Host, steps: list[Step]) -> None:
    if not steps:
        return
    step, rest = steps[0], steps[1:]

    def send() -> None:
        host.wire.announce(_codes(step))
        _settings(host, rest)

    if step.after_ms:
        host.later(step.after_ms, send)
    else:
        send()


def _codes(step: Step) -> dict[SettingCodes, int]:
    named = {
        SettingCodes.MAX_CONCURRENT_STREAMS: step.max_concurrent_streams,
        SettingCodes.INITIAL_WINDOW_SIZE: step.initial_window_size,
        SettingCodes.MAX_FRAME_SIZE: step.max_frame_size,
        SettingCodes.HEADER_TABLE_SIZE: step.header_table_size,
    }
    return {code: value for code, value in named.items() if value is not None}


def _window(host: Host, action: Window) -> None:
    wire = host.wire
    if action.initial_window_size is not None:
        wire.announce({SettingCodes.INITIAL_WINDOW_SIZE: action.initial_window_size})
    if action.stream_credit_after_ms:
        host.stream_credit = action
        host.later(action.stream_credit_after_ms, lambda: host.give_stream_credit(action.stream_credit))
    if action.hold_ms:
        wire.holding_credit = True

        def release() -> None:
            wire.holding_credit = False

        host.later(action.hold_ms, release)
