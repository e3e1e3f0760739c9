"""Pauses: campaigns whose waves stand in no lane until they are let go on, cancelled, or at the end of their life."""

from __future__ import annotations

from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Lanes


class Pauses:
    """The campaigns that are paused. What waits for a retry stays in its timer, and is told to wait on."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._parked: dict[Campaign, list[Wave]] = {}
        """What waits of each, in lanes if it were not for the pause."""

    def begin(self, campaign: Campaign) -> None:
        """Takes what waits of a campaign out of its lanes."""
        campaign.paused = True
        self._parked.setdefault(campaign, []).extend(self._lanes.take_out(campaign))

    def park(self, wave: Wave) -> None:
        """Keeps a wave of a paused campaign, such as what came home without an answer."""
        wave.campaign.waves.add(wave)
        self._parked[wave.campaign].append(wave)

    def end(self, campaign: Campaign) -> list[Wave]:
        """What was kept of a campaign, which is not paused any more."""
        campaign.paused = False
        return self._parked.pop(campaign, [])

    def outlived(self, now: float) -> list[Wave]:
        """What is kept of campaigns whose life is over; those that have ended are forgotten."""
        self._parked = {campaign: waves for campaign, waves in self._parked.items() if not campaign.finishing}
        over: list[Wave] = []
        for campaign, waves in self._parked.items():
            if campaign.outlived(now):
                over += waves
                waves.clear()
        return over
