"""Pushes with aioapns; runs in the environment that `peers.py` made, without anything of pushd's."""

import asyncio
import json
import logging
import resource
import ssl
import sys
import time
from pathlib import Path

import uvloop
from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsBaseClientProtocol, APNsProductionClientProtocol

CONCURRENT = 200
"""In flight at once. Past the 64 KB connection window, half of which may await its update, aioapns stops for 1 s."""


def adapt(port: int) -> None:
    """Points aioapns at the local server; lets it do without `apns-id` in answers and bear empty DATA frames."""
    APNsProductionClientProtocol.APNS_SERVER = "localhost"
    APNsProductionClientProtocol.APNS_PORT = port
    received, data_received = APNsBaseClientProtocol.on_response_received, APNsBaseClientProtocol.on_data_received

    def oldest(self: APNsBaseClientProtocol, headers: dict[bytes, bytes]) -> None:
        headers[b"apns-id"] = next(iter(self.requests)).encode()
        received(self, headers)

    def whole(self: APNsBaseClientProtocol, raw_data: bytes, stream_id: int) -> None:
        if raw_data:
            data_received(self, raw_data, stream_id)

    APNsBaseClientProtocol.on_response_received = oldest
    APNsBaseClientProtocol.on_data_received = whole


async def push(client: APNs, facts: dict, pushes: int) -> int:
    """How many of the pushes were accepted."""
    message, tokens = json.loads(facts["payload"]), facts["tokens"]
    numbers, accepted = iter(range(pushes)), 0

    async def sender() -> None:
        nonlocal accepted
        for number in numbers:
            request = NotificationRequest(
                device_token=tokens[number % len(tokens)],
                message=message,
                time_to_live=0,
                priority=10,
                push_type=PushType.ALERT,
            )
            result = await client.send_notification(request)
            accepted += result.is_successful

    await asyncio.gather(*(sender() for _ in range(CONCURRENT)))
    return accepted


async def main(facts: dict, pushes: int) -> None:
    """Prints what it took, after a warm-up."""
    adapt(facts["port"])
    context = ssl.create_default_context(cafile=facts["ca_file"])
    context.set_alpn_protocols(["h2"])
    client = APNs(
        key=facts["private_key"],
        key_id="BENCHKEY01",
        team_id="BENCHTEAM1",
        topic=facts["topic"],
        max_connections=1,
        ssl_context=context,
    )
    await push(client, facts, pushes // 10)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    accepted = await push(client, facts, pushes)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"accepted": accepted, "seconds": seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])))
