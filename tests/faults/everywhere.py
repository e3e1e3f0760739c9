"""Every vendor at once: bad weather on every link, then kills of the daemon: `python -m tests.faults.everywhere`."""

import asyncio
import sys
from time import monotonic, perf_counter

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.report import arguments, tell
from tests.faults.storm import campaigns, meanwhile, weather
from tests.faults.vendors import EveryVendor
from tests.faults.world import BRISK, world

SETTINGS = BRISK | {"fanout.unsettled_rows_max": 1_000}


async def everywhere(seconds, kills, devices, seed):
    """So many seconds of bad weather in fan-outs to devices of all vendors, then so many kills; what came of them."""
    begun = perf_counter()
    async with world(
        devices, seed=seed, external=True, proxied=True, settings=SETTINGS, far_side=EveryVendor.start
    ) as here:
        async with here.under_way(), meanwhile(campaigns(here, monotonic() + seconds)):
            acts = await asyncio.gather(*(weather(proxy, here.dice, seconds) for proxy in here.links.values()))
        lost_rows = await without_an_answer(here)
        async with here.under_way():
            for _ in range(kills):
                before = await here.gateway.total()
                await here.broadcast()
                await here.once()
                await here.pushed(here.dice.randrange(1, devices), before)
                await here.kill(here.dice.uniform(0, 0.2))
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes())
        check(here, views, verdict, lost_rows)
        return {
            "seed": seed,
            "seconds_of_bad_weather": seconds,
            "acts": {name: len(each) for name, each in zip(here.links, acts, strict=True)},
            "connections": {name: proxy.connections for name, proxy in here.links.items()},
            "connections_struck": {name: proxy.struck for name, proxy in here.links.items()},
            "kills": here.kills,
            "devices": devices,
            "promises": len(here.promises),
            "refusals": len(here.refusals),
            "pushes": here.gateway.kinds(),
            "lost": len(verdict.lost),
            "rows_without_an_answer": lost_rows,
            "duplicates": verdict.duplicates,
            "unsettled_rows_max": here.unsettled_rows_max,
            "at_most_once_twice": len(verdict.twice),
            "at_most_once_unsent": verdict.unsent,
            "drift_samples": len(here.drifts),
            "seconds": round(perf_counter() - begun, 1),
        }


async def without_an_answer(here):
    """How many rows at most were written and got no answer: those that were tried again, and those that may not be."""
    views, known = await here.done(), await here.metrics()
    retries = sum(int(count) for name, count in known.items() if name.startswith("pushd_retries_total"))
    return retries + sum(views[each.id]["counts"]["failed"] for each in here.promises if each.at_most_once)


def main():
    """Runs it from the command line."""
    parser = arguments("everywhere", __doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, default=4_000)
    given = parser.parse_args()
    return tell(
        "everywhere",
        given,
        "nothing lost at any vendor, nothing twice that goes out at most once, repeated only what got no answer",
        lambda seed: everywhere(given.minutes * 60, given.kills, given.devices, seed),
    )


if __name__ == "__main__":
    sys.exit(main())
