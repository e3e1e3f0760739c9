"""The APNs gateway against the simulator: what arrives, and what comes home."""

import asyncio

import numpy as np
import pytest

from apns_world import PAYLOAD, ROUTE, token
from pushd.batch import Lane, Rendered
from pushd.model.device import Environment, Kind, Route

pytestmark = pytest.mark.asyncio


async def test_a_batch_is_accepted_and_arrives_as_it_should(world):
    async with world() as w:
        batch = await w.send(500)
        assert w.reasons(batch) == {"accepted": 500}
        push = w.record.last(token(5))
        headers = dict(push.headers)
        assert push.apns_id == "00000000-0000-8007-8000-000000000005"
        assert headers["apns-topic"] == "com.example.app"
        assert headers["apns-expiration"] == "0"
        assert push.payload == PAYLOAD.payload
        assert w.record.total == 500
        assert not w.record.violation_kinds
        assert w.at_rest()
