"""The daemon as a process: signals, the supervisor and its watchdog, and an end that says why."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop

from pushd.cli import COLLECT_AFTER
from pushd.cli.notify import Notifier
from pushd.config import Config
from pushd.daemon import Daemon
from pushd.errors import ConfigError, PushdError
from pushd.heap import fill_small_arrays, give_back
from pushd.telemetry import configure_logging

log = structlog.get_logger(__name__)

STOP_S = 30.0
"""A stop ends within this time, whatever hangs."""
PARENT_POLL_S = 0.25


def run(config: Config, *, announce: Callable[[Daemon], object] | None = None, with_parent: bool = False) -> int:
    """Runs a daemon until SIGTERM or SIGINT, or `with_parent` until the parent is gone; the exit status.

    `announce` is awaited or called once it serves.
    """
    configure_logging(config.telemetry)
    with contextlib.suppress(KeyboardInterrupt):
        return uvloop.run(_run(config, announce, with_parent=with_parent))
    return 130


async def _run(config: Config, announce: Callable[[Daemon], object] | None, *, with_parent: bool) -> int:
    notifier = Notifier(os.environ)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch = asyncio.create_task(_follow_parent(stop)) if with_parent else None
    try:
        daemon = Daemon(config)
        await _unless_stopped(daemon.start(), stop)
    except PushdError as error:
        log.error("cannot_start", detail=error.detail)  # noqa: TRY400  # the detail says it; a traceback would not
        return 78 if isinstance(error, ConfigError) else 1
    except OSError as error:
        log.error("cannot_start", detail=str(error))  # noqa: TRY400  # an address that is taken, a file out of reach
        return 1
    except asyncio.CancelledError:
        return 0
    loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(_reload(daemon, notifier)))
    _calm_collector()
    watchdog = asyncio.create_task(_feed_watchdog(daemon, notifier))
    notifier.ready()
    if announce is not None:
        outcome = announce(daemon)
        if asyncio.iscoroutine(outcome):
            await outcome
    status = await _until_over(daemon, stop)
    notifier.stopping()
    watchdog.cancel()
    if watch is not None:
        watch.cancel()
    try:
        await asyncio.wait_for(daemon.stop(), STOP_S)
    except TimeoutError:
        log.error("stop_took_too_long", seconds=STOP_S)  # noqa: TRY400  # a traceback says nothing here
        status = 1
    log.info("stopped", status=status)
    return status


def _calm_collector() -> None:
    """Leaves what the start made out of every later collection, which would otherwise hold the loop to walk it all.

    Memory is put in order once, too, for whatever comes to stay in it.
    """
    gc.collect()
    gc.freeze()
    fill_small_arrays()
    give_back()
    gc.set_threshold(*COLLECT_AFTER)


async def _unless_stopped(start: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Waits for the start, and cancels it when the process is told to stop meanwhile."""
    starting = asyncio.create_task(start)
    stopping = asyncio.create_task(_wait(stop))
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
    await starting


async def _follow_parent(stop: asyncio.Event) -> None:
    """Stops when the process that started us is gone: whoever adopts us is another."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(PARENT_POLL_S)
    stop.set()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _until_over(daemon: Daemon, stop: asyncio.Event) -> int:
    """Waits for a signal (0) or for a part that broke an invariant (1)."""
    daemon.failed.add_done_callback(lambda _: stop.set())
    await stop.wait()
    return 1 if daemon.failed.done() and daemon.failed.exception() is not None else 0


async def _reload(daemon: Daemon, notifier: Notifier) -> None:
    notifier.reloading()
    try:
        await daemon.reload()
    except PushdError as error:
        log.error("reload_failed", detail=error.detail)  # noqa: TRY400  # the old state goes on; the detail says why
    notifier.ready()


async def _feed_watchdog(daemon: Daemon, notifier: Notifier) -> None:
    """Pings only when the dispatcher has moved since: a stuck fan-out is restarted like a blocked loop."""
    if not notifier.watchdog_s:
        return
    seen = daemon.progress
    while True:
        await asyncio.sleep(notifier.watchdog_s / 4)
        if daemon.progress != seen:
            seen = daemon.progress
            notifier.alive()
