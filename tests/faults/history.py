"""The history checker: what producers were promised, joined with what the local APNs saw. pushd itself is not asked."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from protocols.apns import apns_id_parts

MAYBE_SHOWN = (200, 0)
"""Answers after which a phone may show a push: accepted, and taken without an answer."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A send that was answered with 202, and the device tokens it was for."""

    id: int
    tokens: frozenset[str]
    at_most_once: bool = False


@dataclass(slots=True)
class Verdict:
    """What came of the promises. Everything but `duplicates` and `unsent` has to be empty."""

    pushes: int = 0
    accepted: int = 0
    duplicates: int = 0
    """Pushes beyond the first to a token for one notification, of what goes out at least once."""
    unsent: int = 0
    """Tokens that a notification which goes out at most once did not reach: allowed, and to be in its ledger."""
    lost: list[tuple[int, str]] = field(default_factory=list)
    """(notification, token) promised at least once and never accepted."""
    twice: list[tuple[int, str]] = field(default_factory=list)
    """(notification, token) pushed more than once though promised at most once."""
    strays: list[tuple[int, str]] = field(default_factory=list)
    """(notification, token) pushed though nobody was promised it."""
    mixed: list[str] = field(default_factory=list)
    """Tokens that went out under more than one device id."""
    reached: Counter[int] = field(default_factory=Counter)
    """Tokens that accepted, by notification."""

    def check(self, duplicates_max):
        """Fails unless every promise was kept."""
        assert not self.lost, f"{len(self.lost)} lost, such as {self.lost[:3]}"
        assert not self.twice, f"{len(self.twice)} sent twice that may go once, such as {self.twice[:3]}"
        assert not self.strays, f"{len(self.strays)} pushes that nobody asked for, such as {self.strays[:3]}"
        assert not self.mixed, f"tokens under several device ids: {self.mixed[:3]}"
        assert self.duplicates <= duplicates_max, f"{self.duplicates} duplicates, allowed are {duplicates_max}"


def judge(promises, pushes, dead=frozenset()):
    """The verdict on promises, given every push that the local APNs saw; `dead` tokens are answered 410."""
    verdict = Verdict()
    shown, accepted, owners = _read(pushes, verdict)
    known = {promise.id: promise for promise in promises}
    assert len(known) == len(promises), "two promises have one id"
    for (notification, token), count in shown.items():
        promise = known.get(notification)
        if promise is None or token not in promise.tokens:
            verdict.strays.append((notification, token))
        elif count > 1 and promise.at_most_once:
            verdict.twice.append((notification, token))
        else:
            verdict.duplicates += count - 1
    for promise in promises:
        reached = accepted[promise.id]
        verdict.reached[promise.id] = len(reached)
        missed = promise.tokens - dead - reached
        if promise.at_most_once:
            verdict.unsent += len(missed)
        else:
            verdict.lost += [(promise.id, token) for token in missed]
    verdict.mixed = [token for token, devices in owners.items() if len(devices) > 1]
    return verdict


def _read(pushes, verdict):
    shown, accepted, owners = Counter(), defaultdict(set), defaultdict(set)
    for push in pushes:
        notification, device = apns_id_parts(push.apns_id)
        owners[push.token].add(device)
        verdict.pushes += 1
        if push.status in MAYBE_SHOWN:
            shown[notification, push.token] += 1
        if push.status == 200:
            verdict.accepted += 1
            accepted[notification].add(push.token)
    return shown, accepted, owners
