"""Requests to the simulated APNs, and Apple's answers to them."""

import pytest


@pytest.mark.asyncio
async def test_accepts_a_push_and_echoes_its_id(simulator, connect):
    async with connect(simulator) as client:
        reply = await client.push(apns_id="123e4567-e89b-82d3-a456-426614174000")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["apns-id"] == "123e4567-e89b-82d3-a456-426614174000"
        assert "apns-unique-id" not in reply.headers
    assert simulator.record.count("ab" * 32) == 1
