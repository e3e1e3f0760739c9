"""What the gateways' tests share."""

from apns_world import world

__all__ = ["world"]
