"""Who: devices and users as columns and bitmaps in memory, and the audiences that select them."""

from pushd.targeting.index import Index
from pushd.targeting.resolution import Addresses, Resolution

__all__ = ["Addresses", "Index", "Resolution"]
