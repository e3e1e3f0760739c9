"""Limits on what clients may report: leaky buckets by name, in bounded memory."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable

from pushd.config.dialects import DialectsConfig
from pushd.config.receipts import ReceiptsConfig
from pushd.errors import TooManyRequestsError

BURST_S = 10.0
"""A device key's receipts of so many seconds may come at once: after a broadcast everybody opens at the same time."""
ADDRESSES_MAX = 65_536
"""Client addresses that are counted."""
USERS_MAX = 65_536
"""Users who send from their apps that are counted."""
ACCOUNTS_MAX = 65_536
"""Accounts whose wrong passwords are counted; those longest left alone are forgotten first."""
SOON_S = 1.0
MINUTE_ROOM = 1_000_000
"""What a user's sends of a minute come to, however many they may be."""


class Buckets:
    """A bucket for each name. What goes in leaks out at a rate; while one is full, nothing more goes in.

    What is asked for at once is taken as a whole while there is any room, so that a bucket may run over by one request
    and not by two. Times are arguments, in seconds that never jump.
    """

    __slots__ = ("_levels", "_names_max", "_per_s", "_room")

    def __init__(self, *, per_s: float, room: float, names_max: int) -> None:
        assert per_s > 0
        assert room > 0
        self._per_s = per_s
        self._room = room
        self._names_max = names_max
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Level and when it was so, those longest silent first."""

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: Hashable, amount: int, now: float) -> float:
        """0 once this much is in the bucket; else how many seconds it stays full, and nothing is taken."""
        level = self.level(name, now)
        if level >= self._room:
            return (level - self._room) / self._per_s + 1 / self._per_s
        self._put(name, level + amount, now)
        return 0.0

    def give_back(self, name: Hashable, amount: int, now: float) -> None:
        """Takes out what was taken and came to nothing."""
        level = self.level(name, now) - amount
        if level > 0:
            self._put(name, level, now)
        else:
            self._levels.pop(name, None)

    def level(self, name: Hashable, now: float) -> float:
        """What is in the bucket."""
        level, then = self._levels.get(name, (0.0, now))
        return max(0.0, level - (now - then) * self._per_s)

    def full(self, name: Hashable, now: float) -> bool:
        """Whether nothing more goes in now."""
        return self.level(name, now) >= self._room

    def forget(self, name: Hashable) -> None:
        """Knows nothing of a name any more."""
        self._levels.pop(name, None)

    def _put(self, name: Hashable, level: float, now: float) -> None:
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > self._names_max:
            self._levels.popitem(last=False)


class ReceiptLimits:
    """What installs, device keys and client addresses may still report."""

    def __init__(self, config: ReceiptsConfig) -> None:
        hourly, second = config.install_per_hour_max, config.key_per_s_max
        self._installs = Buckets(per_s=hourly / 3600, room=hourly, names_max=config.installs_max)
        self._keys = Buckets(per_s=second, room=second * BURST_S, names_max=ADDRESSES_MAX)
        self._addresses = _of_minute(config.beacons_per_minute_max)
        self._forgers = _of_minute(config.bad_signatures_per_minute_max)

    def admit(self, app_id: int, install_id: str, count: int, now: float) -> None:
        """Counts receipts of an install; TooManyRequestsError where it has had its share."""
        _refuse(self._installs.take((app_id, install_id), count, now), "This install has reported too much of late")

    def admit_key(self, key_id: int, count: int, now: float) -> None:
        """Counts receipts by a device key; TooManyRequestsError likewise."""
        _refuse(self._keys.take(key_id, count, now), "Too many receipts come with this key")

    def give_back(self, app_id: int, install_id: str, count: int, now: float) -> None:
        """Counts fewer: receipts that came to nothing were repeated, unknown, or are to be sent again."""
        self._installs.give_back((app_id, install_id), count, now)

    def admit_address(self, network: str, count: int, now: float) -> None:
        """Counts beacons from a client address; TooManyRequestsError where there were too many, or too many forged."""
        if self._forgers.full(network, now):
            raise TooManyRequestsError("Too many beacons without a right signature", retry_after_s=60.0)
        _refuse(self._addresses.take(network, count, now), "Too many beacons come from this address")

    def forged(self, network: str, now: float) -> None:
        """Counts a wrong signature."""
        self._forgers.take(network, 1, now)

    def forget(self, app_id: int, install_id: str) -> None:
        """Knows nothing of an install any more."""
        self._installs.forget((app_id, install_id))


class ClientSends:
    """What users may still send from their apps, which is counted by each daemon for itself."""

    def __init__(self) -> None:
        self._users = Buckets(per_s=MINUTE_ROOM / 60, room=MINUTE_ROOM, names_max=USERS_MAX)

    def admit(self, app_id: int, user_id: int, per_minute: int, now: float) -> None:
        """Counts a send of a user who may make so many a minute; TooManyRequestsError where he has made them."""
        share = MINUTE_ROOM // per_minute
        excess = self._users.level((app_id, user_id), now) + share - MINUTE_ROOM
        _refuse(max(0.0, excess * 60 / MINUTE_ROOM), "This user has sent too much of late")
        self._users.take((app_id, user_id), share, now)


class FollowerLimits:
    """How many browsers may register themselves without a key, and how often each may ask for something."""

    def __init__(self, config: DialectsConfig) -> None:
        self._addresses = _of_minute(config.followers_per_minute_max)
        self._apps = _of_minute(config.followers_of_app_per_minute_max)
        self._calls = _of_minute(config.follower_calls_per_minute_max)

    def admit(self, app_id: int, network: str, now: float) -> None:
        """Counts a new one; TooManyRequestsError where there were too many from this address, or of this app."""
        if self._apps.full(app_id, now):
            raise TooManyRequestsError("Too many browsers register with this app", retry_after_s=1.0)
        _refuse(self._addresses.take(network, 1, now), "Too many browsers register from this address")
        self._apps.take(app_id, 1, now)

    def admit_call(self, app_id: int, install_id: str, now: float) -> None:
        """Counts a call of one that has registered; TooManyRequestsError."""
        _refuse(self._calls.take((app_id, install_id), 1, now), "This browser asks for too much")


class PasswordLimits:
    """How often a password may still be wrong for an account, or for a name that nobody has.

    Those are apart, so that made-up names cannot push an account's failures out of memory. Each daemon counts alone.
    """

    def __init__(self, config: DialectsConfig) -> None:
        self._accounts, self._nobody = (
            Buckets(
                per_s=config.wrong_passwords_per_hour_max / 3600,
                room=config.wrong_passwords_max,
                names_max=ACCOUNTS_MAX,
            )
            for _ in range(2)
        )
        self._trying: Counter[tuple[int, int | str]] = Counter()

    def admit(self, app_id: int, who: int | str, now: float) -> None:
        """Counts a try, as if it failed; TooManyRequestsError where there were too many. `who`: a user, or a name."""
        wait_s = self._buckets(who).take((app_id, who), 1, now)
        # What others try in this moment may turn out to be right.
        _refuse(min(wait_s, SOON_S) if (app_id, who) in self._trying else wait_s, "Too many wrong passwords of late")
        self._trying[app_id, who] += 1

    def tried(self, app_id: int, who: int | str, now: float, *, wrong: bool) -> None:
        """The end of what was admitted; what was not wrong does not count."""
        self._trying[app_id, who] -= 1
        if not self._trying[app_id, who]:
            del self._trying[app_id, who]
        if not wrong:
            self._buckets(who).give_back((app_id, who), 1, now)

    def _buckets(self, who: int | str) -> Buckets:
        return self._accounts if isinstance(who, int) else self._nobody


def _of_minute(most: int) -> Buckets:
    return Buckets(per_s=most / 60, room=most, names_max=ADDRESSES_MAX)


def _refuse(wait_s: float, detail: str) -> None:
    if wait_s:
        raise TooManyRequestsError(detail, retry_after_s=wait_s)
