"""PostgreSQL in trouble under load, in every way there is: `python -m tests.faults.outage --faults 50`."""

import asyncio
import sys
from collections import Counter
from time import monotonic, perf_counter

from tests.faults.chaos import CALM, Weather
from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.report import arguments, tell
from tests.faults.storm import meanwhile, resident, watch
from tests.faults.world import BRISK, world

DISK_MB = 600
BEFORE_ROWS = 1_000
"""Pushes of a fan-out before PostgreSQL gets into trouble in it."""
REFUSES_S = 20.0
"""Within this time of the trouble a send is refused; most are at once."""
BACK_S = 60.0
MEMORY_GROWTH_MAX_MB = 64
"""Sends that wait for PostgreSQL and waves: with 2,000 unsettled rows at most, far less than a leak soon takes."""


async def suffer(names, devices, seed, away_s):
    """Fan-outs and single sends through the troubles of that name, in order; what came of them."""
    begun = perf_counter()
    async with world(
        devices, seed=seed, external=True, disk_mb=DISK_MB, fast=True, proxied=True, settings=BRISK
    ) as here:
        pid, memory, back_s, refused, ahead = here.daemon.pid, [resident(here)], [], Counter(), []
        async with here.under_way(), meanwhile(watch(here, memory)):
            for number, name in enumerate(names):
                promised = await here.gateway.total()
                await here.broadcast()
                if number % 2:
                    await here.once()
                await here.pushed(BEFORE_ROWS, promised)
                before = len(here.refusals)
                ahead.append(await TROUBLES[name](here, away_s))
                refused[name] += len(here.refusals) - before
                back_s.append(await back(here))
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not verdict.duplicates, "the daemon lived on: nothing goes out twice"
        assert not verdict.unsent
        assert here.daemon.pid == pid
        assert here.daemon.running
        assert all(status == 503 and int(after) >= 1 for status, after in here.refusals), here.refusals
        return {
            "seed": seed,
            "troubles": dict(Counter(names)),
            "refusals": dict(refused),
            "devices": devices,
            "promises": len(here.promises),
            "pushes": verdict.pushes,
            "pushes_while_away_max": max(ahead),
            "unsettled_rows_max": here.unsettled_rows_max,
            "lost": len(verdict.lost),
            "duplicates": verdict.duplicates,
            "at_most_once_unsent": verdict.unsent,
            "drift_samples": len(here.drifts),
            "back_after_s_max": round(max(back_s), 2),
            "resident_mb_before": round(memory[0] / 2**20, 1),
            "resident_mb_most": round(max(memory) / 2**20, 1),
            "seconds": round(perf_counter() - begun, 1),
        }


async def back(here):
    """Seconds until a send is accepted again, by the daemon as it is."""
    begun = monotonic()
    await asyncio.wait_for(here.single(), BACK_S)
    return monotonic() - begun


async def gone(here, away_s):
    """PostgreSQL takes nothing for so long: sending stops at what may be unsettled, and sends are refused."""
    seen, refused = await here.gateway.total(), len(here.refusals)
    await asyncio.sleep(away_s)
    ahead = await here.gateway.total() - seen
    assert ahead <= here.unsettled_rows_max, f"sent {ahead} on, beyond what may be unsettled"
    async with asyncio.timeout(REFUSES_S):
        while len(here.refusals) == refused:
            await asyncio.sleep(0.05)
    return ahead


async def stop(here, away_s):
    await here.postgres.stop()
    ahead = await gone(here, away_s)
    await here.postgres.start()
    return ahead


async def kill(here, away_s):
    await here.postgres.kill()
    ahead = await gone(here, away_s)
    await here.postgres.start()
    return ahead


async def freeze(here, away_s):
    here.postgres.freeze()
    try:
        return await gone(here, away_s)
    finally:
        here.postgres.thaw()


async def disk_full(here, away_s):
    """Tables cannot grow. Some statements still find room in what is there: what is refused is refused rightly."""
    here.postgres.fill()
    refused = len(here.refusals)
    async with asyncio.timeout(REFUSES_S + away_s):
        while len(here.refusals) == refused:
            await asyncio.sleep(0.05)
    await asyncio.sleep(away_s)
    here.postgres.make_room()
    await here.postgres.revive()
    return 0


async def log_disk_full(here, away_s):
    """Not even its log can be written: the server ends, and cannot start until there is room."""
    await here.postgres.hold_log()
    await here.postgres.run_out_of_log()
    ahead = await gone(here, away_s)
    here.postgres.make_room()
    await here.postgres.revive()
    await here.postgres.let_log_go()
    return ahead


async def kill_backend(here, away_s):
    await here.postgres.kill_backend()
    return 0


async def terminate_backends(here, away_s):
    assert await here.postgres.terminate_backends()
    return 0


async def slow(here, away_s):
    here.links["postgres"].weather = Weather(latency_s=0.15, jitter_s=0.1)
    await asyncio.sleep(away_s)
    here.links["postgres"].weather = CALM
    return 0


TROUBLES = {
    trouble.__name__: trouble
    for trouble in (terminate_backends, kill, stop, freeze, slow, disk_full, log_disk_full, kill_backend)
}


def main():
    """Runs it from the command line."""
    parser = arguments("outage", __doc__)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--only", choices=TROUBLES, action="append", help="nothing else; may be given several times")
    parser.add_argument("--away-s", type=float, default=5.0, help="how long PostgreSQL is away each time")
    parser.add_argument("--devices", type=int, default=50_000)
    given = parser.parse_args()
    names = given.only or list(TROUBLES)
    names = (names * (given.faults // len(names) + 1))[: given.faults]
    return tell(
        "outage",
        given,
        "nothing lost, nothing twice, 503 with Retry-After meanwhile, the daemon lives on in bounded memory",
        lambda seed: suffer(names, given.devices, seed, given.away_s),
        lambda figures: figures["resident_mb_most"] - figures["resident_mb_before"] <= MEMORY_GROWTH_MAX_MB,
    )


if __name__ == "__main__":
    sys.exit(main())
