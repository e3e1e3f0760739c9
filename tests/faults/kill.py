"""kill -9 at random moments of fan-outs under load, and the verdict: `python -m tests.faults.kill --kills 200`."""

import argparse
import asyncio
import json
import secrets
import sys
from time import perf_counter

import uvloop

from tests.faults.history import judge
from tests.faults.world import UNSETTLED_ROWS_MAX, world


async def survive(kills, devices, seed, *, external=False):
    """Kills a daemon that often while broadcasts, sends at most once and single sends go out; what came of it.

    `external`: PostgreSQL is not the daemon's own and survives.
    """
    begun = perf_counter()
    async with world(devices, seed=seed, external=external) as here:
        first_push_s, backlogs = [], []
        async with here.under_way():
            for number in range(kills):
                if number % 2 == 0:
                    await here.broadcast()
                else:
                    await here.once()
                # Some moments after a number of pushes, some after a time: both cut where the other does not.
                if here.dice.random() < 0.5:
                    await here.pushed(here.dice.randrange(1, devices // 2))
                else:
                    await asyncio.sleep(here.dice.uniform(0, 0.7))
                backlogs.append(await here.metric("pushd_backlog_devices"))
                await here.kill(here.dice.uniform(0, 0.2))
                restarted = perf_counter()
                await here.pushed(1)
                first_push_s.append(perf_counter() - restarted)
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not (await here.gateway.ask("/summary"))["violations"]
        return {
            "seed": seed,
            "kills": kills,
            "kills_of_running": sum(backlog > 100 for backlog in backlogs),
            "devices": devices,
            "promises": len(here.promises),
            "pushes": verdict.pushes,
            "lost": len(verdict.lost),
            "duplicates": verdict.duplicates,
            "duplicates_allowed": kills * UNSETTLED_ROWS_MAX,
            "at_most_once_twice": len(verdict.twice),
            "at_most_once_unsent": verdict.unsent,
            "drift_samples": len(here.drifts),
            "ready_to_first_push_s_max": round(max(first_push_s, default=0.0), 2),
            "seconds": round(perf_counter() - begun, 1),
        }


def check(here, views, verdict):
    """Fails unless promises were kept, bounds held, and the daemon's books agree with what the gateway saw."""
    verdict.check(here.kills * UNSETTLED_ROWS_MAX)
    assert verdict.unsent <= here.kills * UNSETTLED_ROWS_MAX
    assert here.drifts, "the ledger was never looked at"
    assert not any(here.drifts), "the ledger drifted"
    assert set(views) == {promise.id for promise in here.promises}
    for promise in here.promises:
        counts = views[promise.id]["counts"]
        dead = len(promise.tokens & here.dead)
        assert counts["targeted"] <= len(promise.tokens)
        assert counts["targeted"] >= len(promise.tokens) - dead  # those that were retired before it was sent
        assert counts["pending"] == 0
        assert counts["targeted"] == sum(counts.values()) - counts["targeted"]
        if promise.at_most_once:
            assert counts["accepted"] <= verdict.reached[promise.id]
            assert verdict.reached[promise.id] <= counts["accepted"] + counts["failed"]
        else:
            assert counts["accepted"] == verdict.reached[promise.id] == len(promise.tokens) - dead
    assert not here.daemon.broken_parts(), here.daemon.broken_parts()[:3]


def main():
    """Runs it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--external", action="store_true", help="a PostgreSQL that survives the daemon")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}", file=sys.stderr)
    print(json.dumps(uvloop.run(survive(given.kills, given.devices, seed, external=given.external)), indent=2))


if __name__ == "__main__":
    main()
