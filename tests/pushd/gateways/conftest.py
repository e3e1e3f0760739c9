"""What the gateways' tests share."""

from tests.pushd.gateways.apns_world import world
from tests.pushd.gateways.webpush_world import push_world

__all__ = ["push_world", "world"]
