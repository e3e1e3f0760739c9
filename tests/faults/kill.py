"""kill -9 at random moments and named points of fan-outs under load, and the verdict: `python -m tests.faults.kill`."""

import asyncio
import sys
from time import perf_counter

from tests.faults.failpoints import AT_START, POINTS, hits_max
from tests.faults.history import judge
from tests.faults.report import arguments, tell
from tests.faults.world import world

FIRST = "before-tokens-are-retired"
"""Only once is there a dead token to be retired: this point comes in the first life or never."""
BACKLOG_MAX = 4
"""Fan-outs to everybody that may wait: what was cut off early comes on top of the next one."""
REACHED_S = 30.0
"""A point that is not reached by then is not reached."""


def plan(kills, dice):
    """So many ends of a life: at a named point, or None for a random moment; 0: until every point had its turn.

    What a start does needs something left to do: a random moment comes before it.
    """
    names = [name for name in POINTS if name != FIRST]
    ends = [FIRST]
    while len(ends) < max(kills, len(POINTS)):
        dice.shuffle(names)
        for name in names:
            ends += [None, name] if name in AT_START else [name]
            if dice.random() < 0.2:
                ends.append(None)
    return ends[: kills or len(ends)]


async def survive(kills, devices, seed, *, external=False):
    """Kills a daemon that often while broadcasts, sends at most once and single sends go out; what came of it.

    `external`: PostgreSQL is not the daemon's own and survives.
    """
    begun = perf_counter()
    async with world(devices, seed=seed, external=external, fast=True, point=f"{FIRST}:1") as here:
        ends = plan(kills, here.dice)
        missed, backlogs, pushed_s = [], [], []
        async with here.under_way():
            for number, name in enumerate(ends):
                await strike(here, number, name, missed, backlogs)
                following = ends[number + 1] if number + 1 < len(ends) else None
                hit = f"{following}:{here.dice.randint(1, hits_max(following))}" if following else ""
                restarted = perf_counter()
                await here.kill(here.dice.uniform(0, 0.2), hit)
                if not following:
                    await here.pushed(1)
                    pushed_s.append(perf_counter() - restarted)
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        repeats = verdict.repeats_by_life(here.births_ms)
        assert max(repeats) <= here.unsettled_rows_max, f"more than may be unsettled came twice: {repeats}"
        assert not repeats[-1], "the last life was not killed"
        return {
            "seed": seed,
            "kills": here.kills,
            "kills_at_points": sum(name is not None for name in ends) - len(missed),
            "points": len({name for name in ends if name} - set(missed)),
            "points_missed": missed,
            "kills_at_random_moments": len(backlogs),
            "of_a_running_fan_out": sum(backlog > 100 for backlog in backlogs),
            "devices": devices,
            "promises": len(here.promises),
            "pushes": verdict.pushes,
            "lost": len(verdict.lost),
            "duplicates": verdict.duplicates,
            "duplicates_of_one_kill_max": max(repeats),
            "unsettled_rows_max": here.unsettled_rows_max,
            "at_most_once_twice": len(verdict.twice),
            "at_most_once_unsent": verdict.unsent,
            "drift_samples": len(here.drifts),
            "start_to_first_push_s_max": round(max(pushed_s, default=0.0), 2),
            "seconds": round(perf_counter() - begun, 1),
        }


async def strike(here, number, name, missed, backlogs):
    """Ends one life of the daemon in a fan-out: at its point, or at a random moment."""
    sends = []
    if (await here.metric("pushd_backlog_devices") or 0) < BACKLOG_MAX * len(here.tokens):
        sends.append(asyncio.ensure_future(here.broadcast() if number % 2 == 0 else here.once()))
    if name and "attempted" in name:
        sends.append(asyncio.ensure_future(here.once()))
    if name:
        if not await here.daemon.dies(REACHED_S):
            missed.append(name)
    else:
        await asyncio.gather(*sends)
        # Some moments after a number of pushes, some after a time: both cut where the other does not.
        if here.dice.random() < 0.5:
            await here.pushed(here.dice.randrange(1, len(here.tokens) // 4))
        else:
            await asyncio.sleep(here.dice.uniform(0, 0.5))
        backlogs.append(await here.metric("pushd_backlog_devices"))
        await here.daemon.kill()
    here.sends += [each for each in sends if not each.done()]


def check(here, views, verdict, lost_rows=0):
    """Fails unless promises were kept, bounds held, and the daemon's books agree with what the gateway saw.

    `lost_rows`: how many were written to a link and got no answer; each may come twice, or at most once not at all.
    """
    unknown = here.kills * here.unsettled_rows_max + lost_rows
    verdict.check(unknown)
    assert verdict.unsent <= unknown
    assert here.drifts, "the ledger was never looked at"
    assert not any(here.drifts), "the ledger drifted"
    assert set(views) == {promise.id for promise in here.promises}
    dead_tokens = here.dead
    for promise in here.promises:
        counts = views[promise.id]["counts"]
        dead = len(promise.tokens & dead_tokens)
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
    parser = arguments("kill", __doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--devices", type=int, default=50_000)
    parser.add_argument("--external", action="store_true", help="a PostgreSQL that survives the daemon")
    given = parser.parse_args()
    return tell(
        "kill",
        given,
        "nothing lost, nothing twice that goes out at most once, no more repeated by a kill than may be unsettled",
        lambda seed: survive(given.kills, given.devices, seed, external=given.external),
    )


if __name__ == "__main__":
    sys.exit(main())
