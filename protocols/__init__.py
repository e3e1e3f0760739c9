"""What the wire says: pure protocol code, without sockets, clocks or asyncio."""
