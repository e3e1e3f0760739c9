"""A long run at a steady share of the peak: memory, descriptors and the loop's lag: `python -m tests.faults.soak`."""

import asyncio
import sys
from time import monotonic, perf_counter

import numpy as np
import psutil

from tests.faults.children import family
from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.report import arguments, tell
from tests.faults.world import QUIET, world

SHARE = 0.7
"""Of the peak: the load that a daemon has to carry for as long as it runs."""
PEAK_BROADCASTS = 4
SINGLES_PER_S = 40
SAMPLE_S = 1.0
BEFORE_ROWS = 1_000
STILL_S = 1.5
"""Shorter than any deadline."""
WARM_UP = 0.25
"""Share of the run after which buffers, caches and arenas have the size that they need.

What has a bound fills up within minutes: statements of connections, heads of requests, times. What was freed goes back
every 15 s (`memory.trim_interval_s`), so resident memory is a saw of some 3 %: over less than ten minutes the
percentage says nothing."""
PARTS = 15
"""Of what was measured, for the slope's interval: a minute each in the long run, four teeth of the saw."""
CONFIDENT = 1.96
"""Standard deviations of an interval that misses the slope in one run of twenty."""
LAG_BOUNDS_PERCENT = 99
LAG_P99_MAX_MS = 50.0
SLOPE_MAX_PERCENT = 1.0
"""What resident memory may grow by in an hour, as the long run extrapolates it."""
DESCRIPTORS_MORE_MAX = 8
"""Connections come and go: the medians of both halves may differ by so many."""


async def soak(minutes, devices, seed):
    """Broadcasts and single sends for so long, at a steady rate; how memory, descriptors and the loop's lag fared."""
    begun = perf_counter()
    async with world(devices, seed=seed, fast=True, settings=QUIET) as here:
        peak = await peak_rate(here)
        await brim(here)
        before = await here.metrics()
        async with here.under_way(producers=2, pause_s=2 / SINGLES_PER_S):
            samples = await asyncio.gather(
                steady(here, peak * SHARE, minutes * 60), observe(here, minutes * 60), return_exceptions=False
            )
        views = await here.done()
        after = await here.metrics()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not verdict.duplicates
        broadcasts, seen = samples
        return {
            "seed": seed,
            "minutes": minutes,
            "devices": devices,
            "peak_pushes_per_s": round(peak),
            "pushes_per_s": round(broadcasts * devices / (minutes * 60)),
            "broadcasts": broadcasts,
            "promises": len(here.promises),
            "pushes": verdict.pushes,
            "lost": len(verdict.lost),
            "duplicates": verdict.duplicates,
            "drift_samples": len(here.drifts),
            **judged(seen),
            "loop_lag_p99_ms_at_most": 1000 * lag_percentile(before, after, LAG_BOUNDS_PERCENT),
            "cpu_s_daemon": round(after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"], 1),
            "seconds": round(perf_counter() - begun, 1),
        }


async def peak_rate(here):
    """Pushes a second of broadcasts one after the other, each from its POST to the commit of its last outcome."""
    await here.broadcast()
    await here.done()
    begun = monotonic()
    for _ in range(PEAK_BROADCASTS):
        await here.broadcast()
        await here.done()
    return PEAK_BROADCASTS * len(here.tokens) / (monotonic() - begun)


async def brim(here):
    """Has as much under way as may be, once: with PostgreSQL, and then the gateway, standing still in a fan-out.

    Resident memory is what was needed most so far. A machine that stalls in the run must not be taken for a leak.
    """
    ours = family(here.daemon.pid)[1:]
    for processes in (ours, family(here.gateway.pid)):
        before = await here.gateway.total()
        await here.broadcast()
        await here.pushed(BEFORE_ROWS, before)
        for process in processes:
            process.suspend()
        await asyncio.sleep(STILL_S)
        for process in processes:
            process.resume()
        await here.done()


async def steady(here, rate, seconds):
    """Broadcasts at the rate, in pushes a second; how many there were. A machine that lags is not pressed harder."""
    begun, number = monotonic(), 0
    interval = len(here.tokens) / rate
    while monotonic() - begun < seconds:
        await here.broadcast()
        number += 1
        while (await here.metric("pushd_backlog_devices") or 0) > len(here.tokens):
            await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, begun + number * interval - monotonic()))
    return number


async def observe(here, seconds):
    """Samples of (second, resident bytes, descriptors) of the daemon."""
    process, begun, seen = psutil.Process(here.daemon.pid), monotonic(), []
    while (at := monotonic() - begun) < seconds:
        seen.append((at, process.memory_info().rss, process.num_fds()))
        await asyncio.sleep(SAMPLE_S)
    return seen


def judged(seen):
    """Slopes of all samples after the warm-up. Memory has steps: its slope is the median over all pairs (Theil-Sen)."""
    at, resident, descriptors = np.array([each for each in seen if each[0] >= WARM_UP * seen[-1][0]]).T
    half = len(at) // 2
    percent = float(100 * 3600 / np.median(resident))
    return {
        "samples": len(at),
        "resident_mb_first": round(resident[0] / 2**20, 1),
        "resident_mb_last": round(resident[-1] / 2**20, 1),
        "resident_mb_most": round(resident.max() / 2**20, 1),
        "resident_percent_an_hour": round(percent * theil_sen(at, resident), 2),
        "resident_percent_an_hour_95": [round(percent * each, 2) for each in sen_interval(at, resident)],
        "resident_percent_an_hour_first_half": round(percent * theil_sen(at[:half], resident[:half]), 2),
        "resident_percent_an_hour_second_half": round(percent * theil_sen(at[half:], resident[half:]), 2),
        "descriptors_first_half": int(np.median(descriptors[:half])),
        "descriptors_second_half": int(np.median(descriptors[half:])),
        "descriptors_most": int(descriptors.max()),
    }


def theil_sen(at, values, most=1_000):
    """The median slope over all pairs; of many samples, evenly chosen ones."""
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), most)).astype(int))
    return float(np.median(slopes(at[chosen], values[chosen])))


def slopes(at, values):
    """The slope of every pair."""
    first, second = np.triu_indices(len(at), 1)
    return (values[second] - values[first]) / (at[second] - at[first])


def sen_interval(at, values):
    """Between which slopes the true one lies, most likely (Sen 1968, by the variance of Kendall's tau).

    Samples of one second and the next are hardly two: the medians of the parts are taken, which are nearly independent.
    """
    parts = np.array_split(np.arange(len(at)), PARTS)
    found = np.sort(slopes(*(np.array([np.median(each[part]) for part in parts]) for each in (at, values))))
    spread = CONFIDENT * (PARTS * (PARTS - 1) * (2 * PARTS + 5) / 18) ** 0.5
    low, high = (len(found) - spread) / 2, (len(found) + spread) / 2
    return float(found[max(0, int(low) - 1)]), float(found[min(len(found) - 1, int(high) + 1)])


def lag_percentile(before, after, percent):
    """The bucket of `pushd_loop_lag_seconds` below which that share of the samples of a run lies, seconds."""
    name = "pushd_loop_lag_seconds_bucket"
    bounds = [float(each[len(name) + 5 : -2]) for each in after if each.startswith(name)]
    counts = [after[each] - before[each] for each in after if each.startswith(name)]
    return next(bound for bound, count in zip(bounds, counts, strict=True) if count >= counts[-1] * percent / 100)


def main():
    """Runs it from the command line."""
    parser = arguments("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--devices", type=int, default=50_000)
    given = parser.parse_args()
    return tell(
        "soak",
        given,
        f"resident memory grows by less than {SLOPE_MAX_PERCENT:.0f} % an hour, descriptors stay, loop lag p99 under"
        f" {LAG_P99_MAX_MS:.0f} ms; nothing lost or repeated",
        lambda seed: soak(given.minutes, given.devices, seed),
        lambda figures: (
            figures["resident_percent_an_hour"] < SLOPE_MAX_PERCENT
            and figures["descriptors_second_half"] <= figures["descriptors_first_half"] + DESCRIPTORS_MORE_MAX
            and figures["loop_lag_p99_ms_at_most"] <= LAG_P99_MAX_MS
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
