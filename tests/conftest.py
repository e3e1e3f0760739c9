"""What every test shares: uvloop as the event loop of the asynchronous ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop

pytest_plugins = ["tests.postgres"] if Path(__file__).with_name("postgres.py").exists() else []


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable]:
    return {"uvloop": uvloop.new_event_loop}
