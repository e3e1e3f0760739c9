"""Bad weather on all links of the daemon, to PostgreSQL and gateway: `python -m tests.faults.storm --minutes 10`."""

import asyncio
import sys
from contextlib import asynccontextmanager
from time import monotonic, perf_counter

import psutil

from tests.faults.chaos import CALM, Weather
from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.report import arguments, tell
from tests.faults.world import BRISK, world

LOST_REASONS = ("connection_lost", "response_timeout", "stream_reset")
CAMPAIGNS_MAX = 4
"""Broadcasts under way at once: what waits is the test's doing, and must not be taken for a leak."""
MEMORY_S = 0.25
MEMORY_GROWTH_MAX_MB = 64
"""Buffers of links and of waves that wait: with 2,000 unsettled rows at most, far less than a leak soon takes."""


async def endure(seconds, devices, seed):
    """Fan-outs and single sends for so long in bad weather, then in good one; what came of them."""
    begun = perf_counter()
    async with world(devices, seed=seed, external=True, fast=True, proxied=True, settings=BRISK) as here:
        await here.broadcast()
        await here.done()
        memory = [resident(here)]
        async with here.under_way(), meanwhile(watch(here, memory)), meanwhile(campaigns(here, monotonic() + seconds)):
            acts = await asyncio.gather(*(weather(proxy, here.dice, seconds) for proxy in here.links.values()))
        views = await here.done()
        known = await here.metrics()
        lost_rows = sum(int(known.get(f'pushd_retries_total{{reason="{name}"}}', 0)) for name in LOST_REASONS)
        # Rows that go out at most once end with their loss: they are no retries.
        lost_rows += sum(views[each.id]["counts"]["failed"] for each in here.promises if each.at_most_once)
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict, lost_rows)
        return {
            "seed": seed,
            "seconds_of_bad_weather": seconds,
            "acts": {name: len(each) for name, each in zip(here.links, acts, strict=True)},
            "connections": {name: proxy.connections for name, proxy in here.links.items()},
            "connections_struck": {name: proxy.struck for name, proxy in here.links.items()},
            "devices": devices,
            "promises": len(here.promises),
            "refusals": len(here.refusals),
            "pushes": verdict.pushes,
            "lost": len(verdict.lost),
            "rows_without_an_answer": lost_rows,
            "duplicates": verdict.duplicates,
            "at_most_once_twice": len(verdict.twice),
            "at_most_once_unsent": verdict.unsent,
            "drift_samples": len(here.drifts),
            "unsettled_rows_max": here.unsettled_rows_max,
            "resident_mb_before": round(memory[0] / 2**20, 1),
            "resident_mb_most": round(max(memory) / 2**20, 1),
            "resident_mb_after": round(resident(here) / 2**20, 1),
            "seconds": round(perf_counter() - begun, 1),
        }


async def weather(proxy, dice, seconds):
    """So many seconds of changing weather on one proxy, every kind before any comes again; what there was, in order."""
    kinds = (latency, slices, bandwidth, reset, half_open, silence)
    end, acts, deck = monotonic() + seconds, [], []
    while monotonic() < end:
        deck = deck or dice.sample(kinds, len(kinds))
        act = deck.pop()
        acts.append(act.__name__)
        await act(proxy, dice)
        proxy.weather = CALM
        await asyncio.sleep(dice.uniform(0.2, 1.0))
    return acts


async def latency(proxy, dice):
    proxy.weather = Weather(latency_s=dice.uniform(0.005, 0.2), jitter_s=dice.uniform(0, 0.1))
    await asyncio.sleep(dice.uniform(1, 4))


async def slices(proxy, dice):
    proxy.weather = Weather(slice_max=dice.choice((1, 3, 16, 256, 1_400)))
    await asyncio.sleep(dice.uniform(0.5, 3))


async def bandwidth(proxy, dice):
    proxy.weather = Weather(bytes_per_s=dice.uniform(30_000, 1_000_000))
    await asyncio.sleep(dice.uniform(1, 3))


async def reset(proxy, dice):
    """All connections, then perhaps some of those that came since."""
    for share in (1.0, 0.3, 0.3)[: dice.randint(1, 3)]:
        proxy.reset(share)
        await asyncio.sleep(dice.uniform(0.05, 0.5))


async def half_open(proxy, dice):
    proxy.halve(dice.choice((0.3, 1.0)))
    await asyncio.sleep(dice.uniform(0.5, 2))


async def silence(proxy, dice):
    """Shorter than most deadlines, or longer."""
    async with proxy.silence():
        await asyncio.sleep(dice.choice((0.5, 1.5, 6.0)))


async def campaigns(here, end):
    """Broadcasts and sends at most once, some at a time, until then."""
    number = 0
    while monotonic() < end:
        if (await here.metric("pushd_backlog_devices") or 0) < CAMPAIGNS_MAX * len(here.tokens):
            await (here.once() if number % 3 == 2 else here.broadcast())
            number += 1
        await asyncio.sleep(0.5)


async def watch(here, memory):
    while True:
        await asyncio.sleep(MEMORY_S)
        memory.append(resident(here))


def resident(here):
    return psutil.Process(here.daemon.pid).memory_info().rss


@asynccontextmanager
async def meanwhile(work):
    """Runs a coroutine for as long as the block; what it raised is raised at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def main():
    """Runs it from the command line."""
    parser = arguments("storm", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--devices", type=int, default=50_000)
    given = parser.parse_args()
    return tell(
        "storm",
        given,
        "nothing lost, nothing twice that goes out at most once, repeated only what got no answer; bounded memory",
        lambda seed: endure(given.minutes * 60, given.devices, seed),
        lambda figures: figures["resident_mb_most"] - figures["resident_mb_before"] <= MEMORY_GROWTH_MAX_MB,
    )


if __name__ == "__main__":
    sys.exit(main())
