"""What every test shares: uvloop as the event loop of the asynchronous ones, and no test that is timed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres"] if Path(__file__).with_name("postgres.py").exists() else []

# A slow minute of a shared machine is no fault of an example.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable]:
    return {"uvloop": uvloop.new_event_loop}
