"""What Safari says went wrong at its end: the newest lines of each app, in the daemon's log as far as it has room."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import structlog

from pushd.config.safari import SafariConfig
from pushd.model.safari import Said

log = structlog.get_logger(__name__)

MINUTE_S = 60.0


class SafariLog:
    """Lines by app, of this process since its start. Anybody may write them, so every part of it has a bound."""

    def __init__(self, config: SafariConfig) -> None:
        self._config = config
        self._apps: OrderedDict[int, deque[Said]] = OrderedDict()
        self._written: OrderedDict[int, tuple[float, int]] = OrderedDict()

    def add(self, app_id: int, lines: Sequence[str], now: float) -> None:
        """Keeps so many of the lines as there is room for, and writes them to the daemon's log."""
        config = self._config
        kept = self._apps.pop(app_id, None) or deque[Said](maxlen=config.log_lines_kept)
        self._apps[app_id] = kept
        if len(self._apps) > config.log_apps_kept:
            self._apps.popitem(last=False)
        for line in lines[: config.log_lines_max]:
            text = "".join(each if each.isprintable() else " " for each in line[: config.log_line_chars_max])
            kept.append(Said(now, text))
            if self._may_write(app_id, now):
                log.warning("safari_said", app=app_id, text=text)

    def lines(self, app_id: int) -> list[Said]:
        """The newest lines of an app, oldest first."""
        return [*self._apps.get(app_id, ())]

    def _may_write(self, app_id: int, now: float) -> bool:
        began, count = self._written.pop(app_id, (now, 0))
        if not 0.0 <= now - began < MINUTE_S:
            began, count = now, 0
        self._written[app_id] = (began, count + 1)
        if len(self._written) > self._config.log_apps_kept:
            self._written.popitem(last=False)
        return count < self._config.log_lines_per_minute_max
