"""What the gateways' tests share."""

from tests.pushd.gateways.apns_world import world
from tests.pushd.gateways.fcm_world import fcm_identity, fcm_world
from tests.pushd.gateways.webpush_world import push_world

__all__ = ["fcm_identity", "fcm_world", "push_world", "world"]
