"""The feed of a node: what hears of events, renders them, delivers webhooks and serves streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pushd.clock import Clock
from pushd.config.feed import FeedConfig
from pushd.credentials.vault import Vault
from pushd.feed.delivery import Deliverer
from pushd.feed.post import Poster
from pushd.feed.render import Renderer
from pushd.feed.streams import Streams
from pushd.feed.wakes import Wakes
from pushd.outcome import Reasons
from pushd.service import Service
from pushd.store.store import Store
from pushd.transport.guard import Guard
from pushd.transport.resolve import Resolver


class Feed(Service):
    """All of it. `streams` are ended by themselves, before the listeners close."""

    def __init__(
        self,
        config: FeedConfig,
        store: Store,
        reasons: Mapping[int, Reasons],
        master_key: bytes,
        *,
        clock: Clock,
        node_id: int,
        resolver: Resolver | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.vault = Vault(master_key, b"webhook secrets")
        """Seals the secrets of webhooks."""
        self.guard = Guard.configured("feed", config, config.hosts)
        """What the URLs of webhooks are checked with."""
        self.renderer = Renderer(store.events, reasons, config.page_events, config.part_items)
        self.tests: Counter[int] = Counter()
        """Webhooks that are being tried by hand, by app."""
        self._events = store.events
        self._wakes = Wakes(store.database, config.ping_interval_s)
        self._poster = Poster(config, self.guard, resolver)
        self.streams = Streams(config, store.events, self.renderer, self._wakes)
        self.deliverer = Deliverer(
            config,
            webhooks=store.webhooks,
            events=store.events,
            renderer=self.renderer,
            wakes=self._wakes,
            vault=self.vault,
            poster=self._poster,
            clock=clock,
            node_id=node_id,
            retry_s=store.database.config.retry_after_s,
        )

    async def start(self) -> None:
        """Begins to hear of events and to deliver webhooks. UnavailableError."""
        await self._events.adopt()
        for part in (self._poster, self._wakes, self.deliverer):
            part.fatal = self.fatal
            await part.start()

    async def stop(self) -> None:
        """Ends what is under way."""
        for part in (self.deliverer, self._wakes, self._poster):
            await part.stop()
        await super().stop()
