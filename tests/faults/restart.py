"""From the start after a kill -9 to the first push, with many devices: `python -m tests.faults.restart`."""

import sys
from time import perf_counter

import psutil

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.report import arguments, tell
from tests.faults.storm import resident
from tests.faults.world import QUIET, world

FIRST_PUSH_S = 5.0
"""The promise, with a million devices."""


async def restart(devices, kills, seed):
    """Kills a daemon in broadcasts to all of its devices, and how long each next one took to go on with them."""
    begun = perf_counter()
    async with world(devices, seed=seed, fast=True, settings=QUIET) as here:
        registered_s = perf_counter() - begun
        first_push_s, first_push_cpu_s, ready_s = [], [], []
        async with here.under_way():
            for _ in range(kills):
                before = await here.gateway.total()
                await here.broadcast()
                await here.pushed(devices // 10, before)
                started = perf_counter()
                await here.kill(ready=False)
                await here.pushed(1)
                first_push_s.append(perf_counter() - started)
                cpu = psutil.Process(here.daemon.pid).cpu_times()
                first_push_cpu_s.append(cpu.user + cpu.system)
                await here.daemon.ready()
                ready_s.append(perf_counter() - started)
        megabytes = resident(here) / 2**20
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        return {
            "seed": seed,
            "devices": devices,
            "kills": kills,
            "registered_in_s": round(registered_s, 1),
            "kill_to_first_push_s": [round(each, 2) for each in first_push_s],
            "first_push_cpu_s": [round(each, 2) for each in first_push_cpu_s],
            "kill_to_ready_s": [round(each, 2) for each in ready_s],
            "pushes": verdict.pushes,
            "lost": len(verdict.lost),
            "duplicates": verdict.duplicates,
            "duplicates_of_one_kill_max": max(verdict.repeats_by_life(here.births_ms)),
            "unsettled_rows_max": here.unsettled_rows_max,
            "drift_samples": len(here.drifts),
            "resident_mb": round(megabytes, 1),
            "seconds": round(perf_counter() - begun, 1),
        }


def main():
    """Runs it from the command line."""
    parser = arguments("restart", __doc__)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100,000 devices, one kill")
    given = parser.parse_args()
    devices, kills = (100_000, 1) if given.quick else (given.devices, given.kills)
    return tell(
        "restart",
        given,
        f"the first push at most {FIRST_PUSH_S:.0f} s after a kill; nothing lost",
        lambda seed: restart(devices, kills, seed),
        lambda figures: max(figures["kill_to_first_push_s"]) <= FIRST_PUSH_S,
    )


if __name__ == "__main__":
    sys.exit(main())
