"""Everything that runs here: campaigns by the number of their run, and all of one notification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pushd.fanout.campaign import Campaign, tally
from pushd.model.notification import Ledger
from pushd.outcome import Reasons
from pushd.store.settlements import RELEASE_BITS


class Campaigns:
    """The campaigns of one fan-out. Of a plain send the run has the notification's id for a number."""

    def __init__(self) -> None:
        self._by_run: dict[int, Campaign] = {}
        self._rollouts: dict[int, dict[int, Campaign]] = {}
        """Of notifications in several releases, by notification and run."""

    def __len__(self) -> int:
        return len(self._by_run)

    def __iter__(self) -> Iterator[Campaign]:
        return iter(self._by_run.values())

    def get(self, run: int) -> Campaign | None:
        """The campaign of a run; None: it is not here."""
        return self._by_run.get(run)

    def add(self, campaign: Campaign) -> None:
        """Knows a campaign from now on."""
        self._by_run[campaign.run] = campaign
        if campaign.run >> RELEASE_BITS:
            self._rollouts.setdefault(campaign.id, {})[campaign.run] = campaign

    def remove(self, run: int) -> Campaign | None:
        """The campaign of a run, which is forgotten; None: it was not here."""
        campaign = self._by_run.pop(run, None)
        if run >> RELEASE_BITS and campaign is not None:
            releases = self._rollouts[campaign.id]
            del releases[run]
            if not releases:
                del self._rollouts[campaign.id]
        return campaign

    def of(self, notification_id: int) -> Sequence[Campaign]:
        """What runs here of a notification."""
        plain = self._by_run.get(notification_id)
        return (plain,) if plain is not None else tuple(self._rollouts.get(notification_id, {}).values())

    def counts(self, notification_id: int) -> dict[tuple[int, int], int] | None:
        """Committed outcomes by (gateway number, code) of what runs here of a notification; None: nothing does."""
        campaigns = self.of(notification_id)
        if not campaigns:
            return None
        counts: Counter[tuple[int, int]] = Counter()
        for campaign in campaigns:
            counts.update(campaign.counts)
        return dict(counts)

    def ledger(self, notification_id: int, reasons: Mapping[int, Reasons]) -> Ledger | None:
        """The live ledger of what runs here of a notification; None: nothing does."""
        counts = self.counts(notification_id)
        if counts is None:
            return None
        campaigns = self.of(notification_id)
        targeted, pending = sum(each.targeted for each in campaigns), sum(each.pending for each in campaigns)
        return tally(counts, reasons, targeted=targeted, pending=pending)

    @property
    def drift(self) -> int:
        """Sum of the absolute ledger drift of all; 0, or there is a bug."""
        return sum(abs(each.targeted - sum(each.counts.values()) - each.pending) for each in self)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest one was released, UNIX seconds."""
        return min((each.notification.released_at for each in self), default=None)
