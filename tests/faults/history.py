"""The history checker: what producers were promised, joined with what the gateway saw. pushd itself is not asked."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from protocols.apns import apns_id_parts

MAYBE_SHOWN = (200, 0)
"""Answers after which a phone may show a push: accepted, and taken without an answer."""
KEY_DIGITS = 16
"""A token is known by its last 64 bits: tokens of tests are random, and that none collide is checked."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A send that was answered with 202, and the device tokens it was for."""

    id: int
    tokens: frozenset[str]
    at_most_once: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Pushes:
    """What arrived, as columns in the order of arrival."""

    at_ms: np.ndarray
    notifications: np.ndarray
    devices: np.ndarray
    tokens: np.ndarray
    """Keys of the tokens, `key_of`."""
    statuses: np.ndarray

    def __len__(self):
        return len(self.statuses)

    @classmethod
    def of(cls, pushes):
        """The columns of records with `at_ms`, `token`, `apns_id` and `status`."""
        parts = [apns_id_parts(each.apns_id) for each in pushes]
        return cls(
            np.array([each.at_ms for each in pushes], np.int64),
            np.array([notification for notification, _ in parts], np.int64),
            np.array([device for _, device in parts], np.int64),
            np.array([key_of(each.token) for each in pushes], np.uint64),
            np.array([each.status for each in pushes], np.int16),
        )

    @classmethod
    def of_devices(cls, rows):
        """The columns of (ms, notification, device, status), where the number of a device is its token, too."""
        at_ms, notifications, devices, statuses = np.array(rows, np.int64).reshape(-1, 4).T
        return cls(at_ms, notifications, devices, devices.astype(np.uint64), statuses.astype(np.int16))

    def chosen(self, mask):
        return Pushes(*(getattr(self, name)[mask] for name in self.__slots__))


@dataclass(slots=True)
class Verdict:
    """What came of the promises. Everything but `duplicates` and `unsent` has to be empty."""

    pushes: int = 0
    accepted: int = 0
    duplicates: int = 0
    """Pushes beyond the first to a token for one notification, of what goes out at least once."""
    repeated_ms: list[int] = field(default_factory=list)
    """When the push before each of them arrived, ms since the epoch: who sent that one did not live to settle it."""
    unsent: int = 0
    """Tokens that a notification which goes out at most once did not reach: allowed, and to be in its ledger."""
    lost: list[tuple[int, str]] = field(default_factory=list)
    """(notification, end of the token) promised at least once and never accepted."""
    twice: list[tuple[int, str]] = field(default_factory=list)
    """(notification, end of the token) pushed more than once though promised at most once."""
    strays: list[tuple[int, str]] = field(default_factory=list)
    """(notification, end of the token) pushed though nobody was promised it."""
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

    def repeats_by_life(self, births_ms):
        """How many pushes of each life of the daemon were repeated, given when the second and later ones began."""
        lives = np.searchsorted(np.array(births_ms, np.int64), np.array(self.repeated_ms, np.int64), side="right")
        return np.bincount(lives, minlength=len(births_ms) + 1).tolist()


def key_of(token):
    """The key of a token."""
    return int(token[-KEY_DIGITS:], 16)


def judge(promises, pushes, dead=frozenset()):
    """The verdict on promises, given every push that the gateway saw; `dead` tokens are answered 410."""
    verdict = Verdict(pushes=len(pushes), accepted=int(np.count_nonzero(pushes.statuses == 200)))
    known = {promise.id: promise for promise in promises}
    assert len(known) == len(promises), "two promises have one id"
    audiences = _Audiences(dead)
    shown = pushes.chosen(np.isin(pushes.statuses, MAYBE_SHOWN))
    order = np.lexsort((np.arange(len(shown)), shown.tokens, shown.notifications))
    shown = shown.chosen(order)
    numbers, starts = np.unique(shown.notifications, return_index=True)
    ends = np.append(starts, len(shown))[1:]
    for number, start, end in zip(numbers.tolist(), starts, ends, strict=True):
        _judge_one(verdict, number, known.pop(number, None), shown.chosen(slice(start, end)), audiences)
    for promise in known.values():
        _judge_one(verdict, promise.id, promise, shown.chosen(slice(0, 0)), audiences)
    pairs = np.unique(np.stack([pushes.tokens, pushes.devices.astype(np.uint64)]), axis=1)[0]
    verdict.mixed = _named(np.unique(pairs[1:][pairs[1:] == pairs[:-1]]))
    return verdict


def _judge_one(verdict, number, promise, shown, audiences):
    """One notification: its pushes are sorted by token, those of a token by arrival."""
    if promise is None:
        verdict.strays += [(number, name) for name in _named(shown.tokens)]
        return
    everyone, living = audiences.of(promise.tokens)
    stray = ~np.isin(shown.tokens, everyone)
    verdict.strays += [(number, name) for name in _named(np.unique(shown.tokens[stray]))]
    again = np.zeros(len(shown), bool)
    again[1:] = shown.tokens[1:] == shown.tokens[:-1]
    again &= ~stray
    if promise.at_most_once:
        verdict.twice += [(number, name) for name in _named(np.unique(shown.tokens[again]))]
    else:
        verdict.duplicates += int(np.count_nonzero(again))
        verdict.repeated_ms += shown.at_ms[np.flatnonzero(again) - 1].tolist()
    reached = np.unique(shown.tokens[shown.statuses == 200])
    verdict.reached[number] = len(reached)
    missed = np.setdiff1d(living, reached, assume_unique=True)
    if promise.at_most_once:
        verdict.unsent += len(missed)
    else:
        verdict.lost += [(number, name) for name in _named(missed)]


class _Audiences:
    """Sets of tokens as sorted keys, each made once: all broadcasts share one."""

    def __init__(self, dead):
        self._dead = np.array(sorted(map(key_of, dead)), np.uint64)
        self._known = {}

    def of(self, tokens):
        """The keys of the tokens, and of those of them that live."""
        if tokens not in self._known:
            keys = np.unique(np.array([key_of(token) for token in tokens], np.uint64))
            assert len(keys) == len(tokens), "two tokens have one key"
            self._known[tokens] = keys, np.setdiff1d(keys, self._dead, assume_unique=True)
        return self._known[tokens]


def _named(keys):
    return [f"{key:x}" for key in keys.tolist()]
