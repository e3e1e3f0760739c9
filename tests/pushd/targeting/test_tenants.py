"""The bitmaps of one app."""

import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.model.device import ALERT_KINDS, Kind
from pushd.targeting.tenants import Tenant

FLAGS = range(8)


@pytest.mark.parametrize("bulk", [False, True])
def test_devices_in_every_state(bulk):
    tenant = Tenant()
    ids, flags = np.arange(8, dtype=np.uint32) + 1, np.array(FLAGS, np.uint8)
    if bulk:
        tenant.admit_many(1, Kind.APNS, ids, flags)
        tenant.admit_many(2, Kind.APNS_VOIP, ids + 100, np.full(8, 3, np.uint8))
    else:
        for device, flag in zip(ids.tolist(), FLAGS, strict=True):
            tenant.admit(1, Kind.APNS, device, flag)
            tenant.admit(2, Kind.APNS_VOIP, device + 100, 3)
    reached = tenant.reach(tenant.known, ALERT_KINDS)
    assert list(reached) == [4]
    assert tenant.skipped(tenant.known, reached, ALERT_KINDS) == {
        "other_kind": 8,
        "retired": 4,
        "push_disabled": 2,
        "no_token": 1,
    }
    assert len(tenant.reach(tenant.known, frozenset(Kind))) == 9
    assert tenant.reach(tenant.known, frozenset()) == Devices()
    if bulk:
        tenant.dismiss_many(1, Kind.APNS, ids)
    else:
        for device in ids.tolist():
            tenant.dismiss(1, Kind.APNS, device)
    assert (set(tenant.routes), set(tenant.kinds)) == ({2}, {Kind.APNS_VOIP})
    assert all(not bitmap & Devices(range(1, 9)) for bitmap in tenant.bitmaps() if isinstance(bitmap, Devices))


def test_new_states_replace_old_ones():
    tenant = Tenant()
    ids = np.arange(1, 50, dtype=np.uint32)
    for flags in (3, 7, 0, 3):
        tenant.admit_many(1, Kind.APNS, ids, np.full(49, flags, np.uint8))
    assert len(tenant.reachable) == 49
    assert not tenant.retired
    assert not tenant.disabled
    assert not tenant.tokenless
