"""What a resolution starts as."""

from pushd.bitset import Devices
from pushd.targeting.resolution import Resolution


def test_each_resolution_has_lists_of_its_own():
    one, two = Resolution(Devices(), {}), Resolution(Devices(), {})
    one.unknown["devices"].append(1)
    assert not any(two.unknown.values())
    assert one.unsubscribed["devices"] == []
