"""One named person is answered as an evaluation answers, and without one."""

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.model.audience import And, Environments, Kinds, Not, Or, Tags, UserIds, UserNumbers
from pushd.model.device import ALERT_KINDS, Environment, Kind
from pushd.targeting import Index, single

from .naive import DeviceImage, UserImage, device_rows, user_rows
from .test_index import CHANGES, KINDS, FixedClock, feed

PERSONS = st.one_of(
    st.integers(1, 14).map(lambda n: UserIds([f"user-{n}"])), st.integers(1, 14).map(lambda n: UserNumbers([n]))
)
NARROWINGS = st.one_of(
    st.sampled_from(Environment).map(Environments),
    st.lists(st.sampled_from([Kind.APNS, Kind.APNS_VOIP, Kind.FCM]), min_size=1, max_size=3).map(Kinds),
)


@st.composite
def persons(draw):
    parts = draw(st.permutations([draw(PERSONS), *draw(st.lists(NARROWINGS, max_size=3))]))
    return And([And(parts[:2]), *parts[2:]]) if draw(st.booleans()) else And(parts)


@given(CHANGES, persons(), KINDS)
@settings(max_examples=150)
def test_one_person_is_answered_as_by_an_evaluation(changes, audience, kinds):
    index = Index(FixedClock())
    feed(index, changes, (20,))
    whole = index.resolve(1, Or([audience]), kinds)  # an alternative of one: evaluated
    found = index.resolve(1, audience, kinds)
    assert found.devices == whole.devices
    assert (found.named, found.missing, found.skipped) == (whole.named, whole.missing, whole.skipped)
    assert (found.unknown, found.unsubscribed) == (whole.unknown, whole.unsubscribed)


def people():
    """Users 1 and 2 of app 1; 2 has a device in each of its routes."""
    index = Index(FixedClock())
    index.apply_users(user_rows(*(UserImage(key, external=f"person {key}") for key in (1, 2))))
    devices = [DeviceImage(1, user=1), *(DeviceImage(10 + route, user=2, route=route) for route in (1, 2, 3))]
    index.apply_devices(device_rows(*devices))
    return index


def test_one_person_is_found_without_an_evaluation_and_narrowed():
    index, kinds = people(), frozenset(Kind)
    sandbox = And([UserIds(["person 2"]), And([Environments(Environment.SANDBOX), Kinds([Kind.APNS])])])
    assert list(index.one_user(1, sandbox, kinds).devices) == [12]
    assert list(index.one_user(1, And([UserNumbers([2]), Kinds([Kind.APNS])]), kinds).devices) == [11, 12]
    assert index.one_user(1, And([UserNumbers([1]), Kinds([Kind.FCM])]), kinds).devices == Devices()


def test_whatever_is_more_than_one_person_is_evaluated():
    index, one = people(), UserIds(["person 1"])
    for audience in (
        UserIds(["person 1", "person 2"]),
        UserIds(["nobody"]),
        And([one, one]),
        And([one, Tags(any=["news"])]),
        And([one, Not(Kinds([Kind.APNS]))]),
        Kinds([Kind.APNS]),
        And([one, *[Kinds([Kind.APNS])] * single.PARTS_MAX]),
        And([UserIds(["person 2"])]),  # one of his devices rings, and is no alert's
    ):
        assert index.one_user(1, audience, ALERT_KINDS) is None
    with mock.patch.object(single, "DEVICES_MAX", 2):
        assert index.one_user(1, And([UserNumbers([2]), Kinds([Kind.APNS])]), frozenset(Kind)) is None


def test_one_install_is_found_where_all_it_has_can_be_reached():
    index = people()
    assert list(index.one_install(1, [11, 12], ALERT_KINDS).devices) == [11, 12]
    assert index.one_install(1, [11, 12], ALERT_KINDS).named == 1
    for ids in ([], [11, 13], [11, 99]):  # none, one that rings, one that is not there
        assert index.one_install(1, ids, ALERT_KINDS) is None
