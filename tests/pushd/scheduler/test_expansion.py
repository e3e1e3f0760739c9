"""Rules of RFC 5545: its own examples, any rule against dateutil from any point on, and rules made to hurt."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from itertools import islice

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pushd.scheduler import expansion
from pushd.scheduler.expansion import walls
from pushd.scheduler.rules import RuleError, parse

START = datetime(1997, 9, 2, 9)
MANY_STEPS = [
    "FREQ=HOURLY;BYYEARDAY=1,2,3;BYMONTHDAY=31",
    "FREQ=HOURLY;INTERVAL=7;BYDAY=MO;BYMONTHDAY=31;BYYEARDAY=60,61,62,63",
    "FREQ=MINUTELY;BYHOUR=3;BYYEARDAY=100;BYMONTHDAY=31",
    "FREQ=DAILY;BYSETPOS=366;BYHOUR=0,1,2,3,4,5,6,7,8,9,10,11;BYMINUTE=" + ",".join(map(str, range(30))),
]
"""Rules that name no day at all, and seem to name one for long."""


def found(text, start=START, after=None, number=10):
    rule = parse(text)
    return list(islice(walls(rule.filled(start), start, after), number))


def days(text, number):
    return [f"{each:%Y-%m-%d}" for each in found(text, number=number)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FREQ=DAILY;INTERVAL=10", ["1997-09-02", "1997-09-12", "1997-09-22", "1997-10-02"]),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,TH", ["1997-09-02", "1997-09-04", "1997-09-16", "1997-09-18"]),
        ("FREQ=MONTHLY;BYDAY=1FR", ["1997-09-05", "1997-10-03", "1997-11-07"]),
        ("FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU", ["1997-09-07", "1997-09-28", "1997-11-02", "1997-11-30"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-3", ["1997-09-28", "1997-10-29", "1997-11-28"]),
        ("FREQ=MONTHLY;BYMONTHDAY=1,-1", ["1997-09-30", "1997-10-01", "1997-10-31", "1997-11-01"]),
        ("FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200", ["2000-01-01", "2000-04-09", "2000-07-18", "2003-01-01"]),
        ("FREQ=YEARLY;BYDAY=20MO", ["1998-05-18", "1999-05-17", "2000-05-15"]),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", ["1998-05-11", "1999-05-17", "2000-05-15"]),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", ["1998-02-13", "1998-03-13", "1998-11-13", "1999-08-13"]),
        (
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            ["1997-11-04", "2001-11-06", "2005-11-08"],
        ),
        ("FREQ=MONTHLY;BYDAY=TU,WE,TH;BYSETPOS=3", ["1997-09-04", "1997-10-07", "1997-11-06"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", ["1997-09-29", "1997-10-30", "1997-11-27"]),
        ("FREQ=MONTHLY;BYDAY=MO,1FR", ["1997-09-05", "1997-09-08", "1997-09-15", "1997-09-22"]),
    ],
)
def test_examples_of_the_rfc(text, expected):
    assert days(text, len(expected)) == expected


def test_parts_of_the_clock():
    text = "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40"
    again = "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16"
    assert found(text, number=60) == found(again, number=60)
    assert found("FREQ=HOURLY;INTERVAL=3", number=3) == [START + timedelta(hours=3 * step) for step in range(3)]


def test_leap_days_and_month_ends():
    leap = datetime(2096, 2, 29, 7, 30)
    assert [each.year for each in found("FREQ=YEARLY", leap, number=3)] == [2096, 2104, 2108]
    assert [each.month for each in found("FREQ=MONTHLY", datetime(2026, 1, 31), number=4)] == [1, 3, 5, 7]
    last = found("FREQ=MONTHLY;BYMONTHDAY=-1", datetime(2028, 1, 31), number=3)
    assert [each.day for each in last] == [31, 29, 31]


@pytest.mark.parametrize(
    "text",
    [
        *(f"FREQ={each};BYMONTH=2;BYMONTHDAY=29" for each in ("YEARLY", "MONTHLY", "DAILY", "HOURLY", "MINUTELY")),
        "FREQ=YEARLY;BYYEARDAY=366",
        "FREQ=HOURLY;BYYEARDAY=366",
        "FREQ=MINUTELY;BYYEARDAY=366",
        "FREQ=WEEKLY;BYDAY=SU;BYMONTH=2;BYSETPOS=1",
        "FREQ=YEARLY;BYWEEKNO=53;BYDAY=TH",
    ],
)
def test_what_is_rare_is_found(text):
    """The longest that there is none: 2096 to 2104."""
    assert found(text, datetime(2096, 1, 1), datetime(2097, 1, 7), number=1)


@pytest.mark.parametrize("frequency", ["YEARLY", "MONTHLY", "DAILY", "HOURLY", "MINUTELY"])
def test_a_leap_day_that_is_a_certain_day_of_the_week(frequency):
    for day in ("MO", "TU", "WE", "TH", "FR", "SA", "SU"):
        text = f"FREQ={frequency};BYMONTH=2;BYMONTHDAY=29;BYDAY={day};BYHOUR=9"
        (first,) = found(text, datetime(2068, 3, 1), number=1)
        assert (first.month, first.day) == (2, 29)
        assert first.year - 2068 <= 40


def _join(name, values):
    return f"{name}={','.join(map(str, sorted(values)))}"


def _some(least, greatest, size=3):
    return st.sets(st.integers(least, greatest), min_size=1, max_size=size)


@st.composite
def rules(draw):
    """Rules of every frequency, of parts that RFC 5545 allows there and that dateutil reads as it says."""
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.sampled_from([1, 1, 2, 3, 5, 7, 13, 45]))}"]
    maybe = st.sampled_from([True, False, False])
    if draw(maybe):
        parts.append(_join("BYMONTH", draw(_some(1, 12))))
    if frequency != "WEEKLY" and draw(maybe):
        parts.append(_join("BYMONTHDAY", draw(_some(-31, 31)) - {0} or {1}))
    if frequency in {"YEARLY", "HOURLY", "MINUTELY"} and draw(maybe):
        parts.append(_join("BYYEARDAY", draw(_some(-366, 366, 8)) - {0} or {1}))
    weeks = frequency == "YEARLY" and draw(maybe)
    if weeks:
        parts.append(_join("BYWEEKNO", draw(_some(1, 53)) | draw(st.sampled_from([set(), {-1}]))))
    if draw(maybe):
        names = draw(st.sets(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=3))
        if frequency in {"YEARLY", "MONTHLY"} and not weeks and draw(st.booleans()):
            names = {f"{draw(st.sampled_from([1, 2, 4, 5, -1, -2]))}{name}" for name in names}
        parts.append(_join("BYDAY", names))
    if draw(maybe):
        parts.append(_join("BYHOUR", draw(_some(0, 23))))
    if draw(maybe):
        parts.append(_join("BYMINUTE", draw(_some(0, 59))))
    if len(parts) > 2 and draw(maybe):
        parts.append(_join("BYSETPOS", draw(_some(-5, 5)) - {0} or {1}))
    parts.append(f"WKST={draw(st.sampled_from(['MO', 'SU', 'WE']))}")
    return ";".join(parts)


STARTS = st.datetimes(datetime(1970, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(microsecond=0))


def oracle(text, start, number, until):
    """dateutil's, up to a wall time that there is something at, so that it comes back; None where it says no."""
    try:
        rule = rrulestr(f"{text};UNTIL={until:%Y%m%dT%H%M%S}", dtstart=start)
    except ValueError:
        return None
    return list(islice(rule, number))


@settings(max_examples=200)
@given(rules(), STARTS)
def test_any_rule_is_what_dateutil_makes_of_it(text, start):
    # In the first week dateutil counts positions from the start on, where RFC 5545 counts those of the whole week.
    assume(not ("WEEKLY" in text and "BYSETPOS" in text))
    ours = found(text, start, number=12)
    # Where what comes next is far, dateutil walks there day by day.
    ours = [wall for wall in ours if wall.year < start.year + 30]
    assume(ours)
    theirs = oracle(text, start, len(ours), ours[-1])
    assume(theirs is not None)
    assert ours == theirs


@settings(max_examples=150)
@given(rules(), STARTS, st.integers(0, 14))
def test_going_on_from_anywhere_is_the_same(text, start, skipped):
    whole = found(text, start, number=18)
    assume(len(whole) == 18)
    for after in (whole[skipped], whole[skipped] + timedelta(seconds=1), whole[skipped + 1] - timedelta(seconds=1)):
        assert found(text, start, after, number=3) == whole[skipped + 1 : skipped + 4]


def test_old_rules_cost_no_more_than_young_ones():
    # Walking there from the start would take hours.
    for text in ("FREQ=MINUTELY", "FREQ=MINUTELY;INTERVAL=7;BYDAY=MO", "FREQ=HOURLY;BYHOUR=3", "FREQ=DAILY;INTERVAL=3"):
        for _ in range(100):
            assert len(found(text, datetime(1970, 1, 1), datetime(2970, 5, 5, 5, 5), number=3)) == 3


MINUTES = ",".join(map(str, range(60)))


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2,4,6;BYMONTHDAY=31",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=-30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYMONTH=11;BYMONTHDAY=31",
        "FREQ=MINUTELY;BYMONTH=1;BYSETPOS=2",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=10,12,14",
        "FREQ=MINUTELY;INTERVAL=60;BYMINUTE=59",
        "FREQ=MINUTELY;INTERVAL=1440;BYHOUR=2;BYMINUTE=2",
        "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=3",
        "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=366",
        f"FREQ=MONTHLY;BYDAY=53MO;BYHOUR=0,1,2;BYMINUTE={MINUTES}",
        "FREQ=YEARLY;INTERVAL=100000;BYMONTH=1;BYMONTHDAY=1",
        *MANY_STEPS,
    ],
)
def test_rules_that_never_occur_come_back(text):
    assert found(text, datetime(2025, 1, 7, 9, 30), after=datetime(2026, 11, 21)) == []


@pytest.mark.parametrize("text", MANY_STEPS)
def test_rules_that_never_occur_cost_few_steps(text):
    """Lines of ours that are run, rather than time: a line takes a tenth of a microsecond or two."""
    rule, start = parse(text), datetime(2025, 1, 7, 9, 30)
    lines = 0

    def count(frame, event, _):
        nonlocal lines
        lines += event == "line"
        return count if frame.f_code.co_filename == expansion.__file__ else None

    sys.settrace(count)
    try:
        assert next(walls(rule.filled(start), start, datetime(2026, 11, 21)), None) is None
    finally:
        sys.settrace(None)
    assert lines < 150_000


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "NAME=VALUE"),
        ("FREQ", "NAME=VALUE"),
        ("BYDAY=MO", "no FREQ"),
        ("FREQ=SECONDLY", "none of YEARLY"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ twice"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=100001", "INTERVAL"),
        ("FREQ=DAILY;COUNT=-1", "COUNT"),
        ("FREQ=DAILY;COUNT=²", "COUNT"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "exclude each other"),
        ("FREQ=DAILY;UNTIL=20270230", "no calendar"),
        ("FREQ=DAILY;UNTIL=tomorrow", "neither a day"),
        ("FREQ=DAILY;BYMONTH=13", "13 in BYMONTH"),
        ("FREQ=DAILY;BYMONTH=-1", "-1 in BYMONTH"),
        ("FREQ=DAILY;BYHOUR=24", "24 in BYHOUR"),
        ("FREQ=DAILY;BYHOUR=1,,2", "no list of numbers"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "0 in BYMONTHDAY"),
        ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY"),
        ("FREQ=MONTHLY;BYDAY=54MO", "BYDAY"),
        ("FREQ=MONTHLY;BYDAY=XX", "BYDAY"),
        ("FREQ=WEEKLY;BYDAY=1MO", "counts days"),
        ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO", "counts days"),
        ("FREQ=MONTHLY;BYWEEKNO=3", "BYWEEKNO"),
        ("FREQ=DAILY;BYYEARDAY=3", "BYYEARDAY"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "BYMONTHDAY"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=MINUTELY;BYSECOND=1,2", "BYSECOND"),
        ("FREQ=DAILY;WKST=XX", "WKST"),
        ("FREQ=DAILY;BYEASTER=0", "not known"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "not known"),
    ],
)
def test_what_is_no_rule(text, what):
    with pytest.raises(RuleError, match=what):
        parse(text)


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="FREQ=DAILYBMONTHUS;,-0123456789:Z", max_size=60)))
def test_any_text_is_a_rule_or_a_rule_error(text):
    try:
        rule = parse(text)
    except RuleError:
        return
    assert list(islice(walls(rule.filled(START), START, None), 2)) is not None
