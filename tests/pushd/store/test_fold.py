"""Folding registrations comes to the same as taking them one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pushd.model.device import Environment, Kind, Platform, Registration
from pushd.store.fold import ENVIRONMENT_NUMBERS, KIND_NUMBERS, Folded, address_of

FIELDS = ("user_id", "platform", "tags", "locale", "time_zone", "app_version", "push_enabled", "in_app_consent")
NAMES = ("user", "platform", "tags", "locale", "time_zone", "app_version", "push_enabled", "in_app_consent")


def maybe(*values):
    return st.sampled_from([UNSET, *values])


registrations = st.builds(
    Registration,
    install_id=st.sampled_from(["a", "b", "c"]),
    kind=st.sampled_from([Kind.APNS, Kind.APNS_VOIP]),
    token=st.sampled_from([None, "t1", "t2", "t3"]),
    environment=st.sampled_from(list(Environment)),
    bundle=maybe("x", "y"),
    user_id=maybe(None, "u1", "u2"),
    platform=maybe(None, Platform.IOS),
    tags=maybe([], ["p"], ["q", "r"]),
    locale=maybe(None, "de"),
    time_zone=maybe(None, "UTC"),
    app_version=maybe(None, "1"),
    push_enabled=maybe(True, False),
    in_app_consent=maybe(True, False),
)
sequences = st.lists(st.tuples(st.sampled_from([1, 2]), registrations), max_size=12)
stored = st.dictionaries(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from(["a", "b", "z"]), st.just(KIND_NUMBERS[Kind.APNS])),
    st.sampled_from(["t1", "t2", "t9"]),
    max_size=4,
)


def fold(sequence):
    folded = Folded()
    for app_id, registration in sequence:
        folded.take(app_id, [registration])
    return folded


def key_of(app_id, registration):
    return (app_id, registration.install_id, KIND_NUMBERS[registration.kind])


def one_by_one(owners, sequence):
    """Who has which address after each registration was taken by itself."""
    owners = dict(owners)
    for app_id, each in sequence:
        if each.token is not None:
            kind, environment = KIND_NUMBERS[each.kind], ENVIRONMENT_NUMBERS[each.environment]
            device = key_of(app_id, each)
            owners = {address: owner for address, owner in owners.items() if owner != device}
            owners[address_of(app_id, kind, environment, each.token.encode())] = device
    return owners


def as_sets(owners, folded):
    """Who has which address after the sets were applied as register_devices does."""
    owners = dict(owners)
    devices = {}
    for each in folded.addresses:
        install = folded.installs[each.install - 1]
        devices[each.row] = (install.app_id, install.name, each.kind)
    for address, winner in folded.claimed.items():
        final = devices[winner.row] if winner is not None else None
        if owners.get(address) not in (None, final):
            del owners[address]
    for each in folded.addresses:
        if each.lost or each.address is not None:
            owners = {address: owner for address, owner in owners.items() if owner != devices[each.row]}
    for each in folded.addresses:
        if each.address is not None:
            assert each.address not in owners, "an address would be there twice"
            owners[each.address] = devices[each.row]
    return owners


@given(stored, sequences)
def test_addresses_end_with_the_same_owners(before, sequence):
    owners = {}
    for (app_id, install, kind), token in before.items():
        owners[address_of(app_id, kind, 0, token.encode())] = (app_id, install, kind)
    assert as_sets(owners, fold(sequence)) == one_by_one(owners, sequence)


@given(sequences)
def test_the_last_word_on_every_attribute_counts(sequence):
    folded = fold(sequence)
    last = {}
    for app_id, each in sequence:
        for bit, (field, name) in enumerate(zip(FIELDS, NAMES, strict=True)):
            if (value := getattr(each, field)) is not UNSET:
                last[app_id, each.install_id, bit] = (name, value)
    said = {
        (install.app_id, install.name, bit): (NAMES[bit], getattr(install, NAMES[bit]))
        for install in folded.installs
        for bit in range(len(NAMES))
        if install.mask & 1 << bit
    }
    assert said == last


@given(sequences)
def test_every_registration_has_its_device(sequence):
    folded = fold(sequence)
    assert [address.row for address in folded.addresses] == list(range(1, len(folded.addresses) + 1))
    for (app_id, each), row in zip(sequence, folded.rows, strict=True):
        address = folded.addresses[row - 1]
        install = folded.installs[address.install - 1]
        assert (install.app_id, install.name, address.kind) == key_of(app_id, each)


def test_an_address_tells_apps_kinds_environments_and_tokens_apart():
    parts = [(1, 1, 1, b"1"), (11, 1, 1, b""), (1, 11, 1, b""), (1, 1, 11, b""), (1, 1, 1, b" 1"), (2, 1, 1, b"1")]
    assert len({address_of(*each) for each in parts}) == len(parts)
    assert all(len(address_of(*each)) == 16 for each in parts)
