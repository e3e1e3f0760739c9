"""Pauses: campaigns whose waves stand in no lane until they are let go on, cancelled, or at the end of their life."""

from __future__ import annotations

from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Lanes


class Pauses:
    """The campaigns that are paused. What waits for a retry stays in its timer, and is told to wait on."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._campaigns: set[Campaign] = set()

    def begin(self, campaign: Campaign) -> None:
        """Takes what waits of a campaign out of its lanes."""
        campaign.paused = True
        self._campaigns.add(campaign)
        campaign.parked += self._lanes.take_out(campaign)

    def park(self, wave: Wave) -> None:
        """Keeps a wave of a paused campaign, such as what came home without an answer."""
        wave.campaign.waves.add(wave)
        wave.campaign.parked.append(wave)

    def end(self, campaign: Campaign) -> list[Wave]:
        """What was kept of a campaign, which is not paused any more."""
        campaign.paused = False
        self._campaigns.discard(campaign)
        parked, campaign.parked = campaign.parked, []
        return parked

    def outlived(self, now: float) -> list[Wave]:
        """What is kept of campaigns whose life is over."""
        self._campaigns = {campaign for campaign in self._campaigns if not campaign.finishing}
        over: list[Wave] = []
        for campaign in self._campaigns:
            if campaign.outlived(now):
                over += campaign.parked
                campaign.parked = []
        return over
