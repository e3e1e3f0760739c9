"""A TCP proxy with the manners of networks: latency, slices, bandwidth, resets, half-open links, silence. Seeded."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from time import monotonic

READ_BYTES = 65_536
WAITING_CHUNKS_MAX = 64
CONNECT_S = 10.0
LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero: a close is a reset."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to bytes on their way, in both directions."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    slice_max: int = 0
    """Bytes arrive in pieces of one up to so many; 0: as they come."""
    bytes_per_s: float = 0.0
    """0: as fast as they come."""


CALM = Weather()


class Proxy:
    """Stands between a client and an upstream, `(host, port)` or the path of a Unix socket."""

    def __init__(self, upstream, dice):
        self.weather = CALM
        self.port = 0
        self.connections = 0
        self.struck = 0
        """Connections that were reset or left half-open."""
        self._upstream = upstream
        self._dice = dice
        self._pairs = set()
        self._clear = asyncio.Event()
        self._clear.set()
        self._server = None
        self._tasks = set()

    async def start(self):
        """Listens on a free port of the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What happens to connections -------------------------------------------------------------------------------------

    def reset(self, share=1.0):
        """Resets connections, both ends, by chance that share of them."""
        for pair in self._chosen(share):
            pair.reset()

    def halve(self, share=1.0):
        """Leaves connections half-open: the upstream end is gone, the client hears nothing of it, ever."""
        for pair in self._chosen(share):
            pair.halve()

    @contextlib.asynccontextmanager
    async def silence(self):
        """Meanwhile no byte arrives anywhere; afterwards those arrive that were sent."""
        self._clear.clear()
        try:
            yield
        finally:
            self._clear.set()

    def _chosen(self, share):
        chosen = [pair for pair in self._pairs if self._dice.random() < share]
        self.struck += len(chosen)
        return chosen

    # Carrying --------------------------------------------------------------------------------------------------------

    async def _serve(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        pair = None
        try:
            await self._clear.wait()
            async with asyncio.timeout(CONNECT_S):
                pair = _Pair(reader, writer, *await self._connect())
            self._pairs.add(pair)
            await self._carry(pair)
        except* (OSError, TimeoutError, asyncio.CancelledError):
            pass  # an end is gone, or all is over: so is the other end
        finally:
            self._pairs.discard(pair)
            self._tasks.discard(task)
            for each in (writer, pair and pair.upstream):
                if each is not None:
                    each.transport.abort()

    async def _connect(self):
        if isinstance(self._upstream, tuple):
            return await asyncio.open_connection(*self._upstream)
        return await asyncio.open_unix_connection(self._upstream)

    async def _carry(self, pair):
        async with asyncio.TaskGroup() as group:
            pair.tasks = [
                group.create_task(work)
                for source, sink in ((pair.below, pair.upstream), (pair.above, pair.client))
                for work in self._way(source, sink, pair)
            ]

    def _way(self, source, sink, pair):
        """Two tasks of one direction: bytes are taken in as they come, and handed on when they are due."""
        queue = asyncio.Queue(WAITING_CHUNKS_MAX)
        return self._take(source, queue, pair), self._hand_on(queue, sink, pair)

    async def _take(self, source, queue, pair):
        due = 0.0
        while data := await source.read(READ_BYTES):
            weather = self.weather
            due = max(due, monotonic() + weather.latency_s + self._dice.uniform(0, weather.jitter_s))
            await queue.put((due, data))
        await queue.put((0.0, b""))

    async def _hand_on(self, queue, sink, pair):
        while True:
            due, data = await queue.get()
            if (wait := due - monotonic()) > 0:
                await asyncio.sleep(wait)
            await self._clear.wait()
            if pair.half_open:
                continue
            if not data:
                if sink.can_write_eof():
                    sink.write_eof()
                return
            await self._write(sink, data, pair)

    async def _write(self, sink, data, pair):
        """Writes in the pieces and at the pace of the weather as it is now."""
        at = 0
        while at < len(data) and not pair.half_open and not sink.is_closing():
            weather = self.weather
            size = self._dice.randint(1, weather.slice_max) if weather.slice_max else len(data)
            if weather.bytes_per_s:
                size = min(size, max(1, int(weather.bytes_per_s / 50)))
                await asyncio.sleep(size / weather.bytes_per_s)
            sink.write(data[at : at + size])
            at += size
            if weather.slice_max:
                await asyncio.sleep(0)  # each piece is a write of its own
            await sink.drain()


class _Pair:
    """A connection of a client, and ours to the upstream for it."""

    def __init__(self, below, client, above, upstream):
        self.below, self.client = below, client
        self.above, self.upstream = above, upstream
        self.half_open = False
        self.tasks = []
        for writer in (client, upstream):
            if writer.get_extra_info("socket").family != socket.AF_UNIX:
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def reset(self):
        for writer in (self.client, self.upstream):
            if not writer.is_closing() and writer.get_extra_info("socket").family != socket.AF_UNIX:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()

    def halve(self):
        """The upstream end goes; what the client says is still read, and leads nowhere."""
        self.half_open = True
        self.tasks[2].cancel()  # nothing comes from above any more, not even its end
        self.tasks[3].cancel()
        self.upstream.transport.abort()
