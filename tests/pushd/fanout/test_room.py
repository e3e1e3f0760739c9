"""Back-pressure that tells the truth: who is refused, and that there is room when Retry-After is over."""

import math

import pytest

from pushd.config import FanoutConfig
from pushd.errors import PushdError, TooManyRequestsError, UnavailableError
from pushd.fanout.room import Rate, Room
from tests.pushd.fanout.conftest import notification
from tests.pushd.fanout.test_fairness import populate

CONFIG = FanoutConfig(
    backlog_rows_max=10_000,
    app_backlog_rows_max=6_000,
    campaigns_max=100,
    app_campaigns_max=40,
    room_retry_after_max_s=300,
)


class Daemon:
    """A room whose rows are settled at a rate, under a clock of its own."""

    def __init__(self, config=CONFIG, per_s=0.0, app_id=1):
        self.now = 1_000.0
        self.room = Room(config, self.now)
        self.per_s, self.app_id, self.owed = per_s, app_id, 0.0

    def accept(self, rows, app_id=None):
        app_id = self.app_id if app_id is None else app_id
        self.room.check(app_id, rows, self.now)
        self.room.begin(app_id, rows, self.now)

    def run(self, seconds, step_s=0.02):
        """Commits come every 20 ms."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step_s)
            waiting = self.room.app(self.app_id)
            self.owed += self.per_s * step_s
            done = min(int(self.owed), waiting.rows if waiting else 0)
            self.owed -= int(self.owed)
            if done:
                self.room.settle(self.app_id, done, self.now)

    def refusal(self, rows, app_id=None):
        with pytest.raises(PushdError) as error:
            self.room.check(self.app_id if app_id is None else app_id, rows, self.now)
        return error.value


def busy(per_s=100.0, rows=6_000):
    """A daemon that has settled at a rate for a while, with so many rows waiting."""
    daemon = Daemon(per_s=per_s)
    daemon.room.begin(1, round(rows + per_s * 30), daemon.now)
    daemon.run(30)
    return daemon


def test_the_rate_is_measured_smoothed_and_falls_while_nothing_happens():
    rate = Rate(10.0, 0.0)
    assert rate.per_s(0.0) == rate.per_s(5.0) == 0.0
    for step in range(1, 101):
        rate.add(50, step / 10)
    assert rate.per_s(10.0) == pytest.approx(500, rel=0.02), "true from the start"
    rate.add(5_000, 10.1)
    assert rate.per_s(10.1) < 1_500, "one large commit is not a rate"
    assert rate.per_s(40.0) < 0.1 * rate.per_s(10.1)


@pytest.mark.parametrize("per_s", [37.0, 100.0, 900.0])
@pytest.mark.parametrize("rows", [500, 3_000])
def test_when_retry_after_is_over_there_is_room(per_s, rows):
    daemon = busy(per_s)
    wait_s = daemon.refusal(rows).retry_after_s
    assert wait_s <= 300
    daemon.run(math.ceil(wait_s * 1.03))
    daemon.accept(rows)


def test_retry_after_grows_with_what_waits_and_shrinks_with_the_rate():
    by_backlog = [busy(rows=rows).refusal(2_000).retry_after_s for rows in (4_500, 5_000, 6_000)]
    assert by_backlog == sorted(set(by_backlog))
    assert by_backlog[2] == pytest.approx(20, rel=0.05), "2,000 rows too many, 100 a second"
    by_rate = [busy(per_s=per_s).refusal(2_000).retry_after_s for per_s in (50.0, 100.0, 1_000.0)]
    assert by_rate == sorted(set(by_rate), reverse=True)
    by_asked = [busy().refusal(rows).retry_after_s for rows in (200, 1_000, 5_000)]
    assert by_asked == sorted(set(by_asked))


def test_retry_after_is_bounded_both_ways():
    assert busy(per_s=0.5).refusal(2_000).retry_after_s == 300
    assert busy(per_s=1_000.0).refusal(100).retry_after_s == 1.0
    daemon = Daemon()
    daemon.accept(6_000)
    assert daemon.refusal(1).retry_after_s == CONFIG.room_retry_after_s, "nothing was measured yet"
    stalled = busy()
    before = stalled.refusal(2_000).retry_after_s
    stalled.per_s = 0
    stalled.run(30)
    assert before < stalled.refusal(2_000).retry_after_s <= 300, "PostgreSQL is away: the rate is not what it was"


def test_an_app_that_is_full_is_told_so_and_others_are_not():
    daemon = Daemon()
    daemon.accept(6_000)
    error = daemon.refusal(1)
    assert isinstance(error, TooManyRequestsError)
    assert (error.status, error.retryable) == (429, True)
    daemon.accept(3_000, app_id=2)
    error = daemon.refusal(1_001, app_id=3)
    assert isinstance(error, UnavailableError)
    assert (error.status, error.retryable) == (503, True)
    daemon.accept(1_000, app_id=3)


def test_one_send_larger_than_the_bound_goes_when_nothing_else_waits():
    daemon = Daemon(per_s=100_000)
    daemon.accept(50_000)
    daemon.refusal(1)
    daemon.run(1)
    assert daemon.room.whole.rows == 0
    daemon.accept(50_000)


def test_notifications_are_bounded_as_rows_are():
    daemon = Daemon()
    for _ in range(40):
        daemon.accept(1)
    assert isinstance(daemon.refusal(1), TooManyRequestsError)
    for app_id in range(2, 62):
        daemon.accept(1, app_id=app_id)
    assert isinstance(daemon.refusal(1, app_id=99), UnavailableError)
    for _ in range(10):
        daemon.now += 1
        daemon.room.settle(1, 1, daemon.now)
        daemon.room.end(1, 1, daemon.now)
    daemon.accept(1)


def test_nothing_is_kept_of_apps_of_which_nothing_waits():
    daemon = Daemon()
    for app_id in range(1, 50):
        daemon.accept(2, app_id=app_id)
        daemon.room.settle(app_id, 1, daemon.now)
        daemon.room.remove(app_id, 1, daemon.now)
        daemon.room.end(app_id, 1, daemon.now)
        assert daemon.room.app(app_id) is None
    assert (daemon.room.whole.rows, daemon.room.whole.campaigns) == (0, 0)


@pytest.mark.asyncio
async def test_the_fanout_counts_what_waits_by_app_and_forgets_it_again(bench):
    one = await bench(app_backlog_rows_max=1_000, backlog_rows_max=1_500)
    one.gateway.gate.clear()
    one.release(notification(1, app_id=1), populate(one, 1, 900))
    one.fanout.check_room(100, 1)
    with pytest.raises(TooManyRequestsError):
        one.fanout.check_room(101, 1)
    one.release(notification(2, app_id=2), populate(one, 2, 500))
    with pytest.raises(UnavailableError):
        one.fanout.check_room(101, 3)
    one.gateway.gate.set()
    await one.done(1, 2)
    await one.until(lambda: one.fanout.running == 0)
    assert one.fanout.backlog == 0
    assert one.fanout._room.app(1) is one.fanout._room.app(2) is None
    one.fanout.check_room(1_000, 1)
