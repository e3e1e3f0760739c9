"""What the gateways' tests share."""

from tests.pushd.gateways.apns_world import world

__all__ = ["world"]
