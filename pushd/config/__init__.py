"""Configuration: one frozen struct per part, every bound and deadline with its default; `load` reads it."""

from __future__ import annotations

from msgspec import Struct, field

from pushd.config.apns import ApnsConfig
from pushd.config.dialects import DialectsConfig
from pushd.config.email import EmailConfig
from pushd.config.fanout import FanoutConfig
from pushd.config.fcm import FcmConfig
from pushd.config.feed import FeedConfig
from pushd.config.hms import HmsConfig
from pushd.config.http import HttpConfig
from pushd.config.imports import ImportsConfig
from pushd.config.inbox import InboxConfig
from pushd.config.memory import MemoryConfig
from pushd.config.pictures import PicturesConfig
from pushd.config.places import PlacesConfig
from pushd.config.receipts import ReceiptsConfig
from pushd.config.safari import SafariConfig
from pushd.config.scheduler import SchedulerConfig
from pushd.config.secrets import SecretsConfig
from pushd.config.store import StoreConfig
from pushd.config.telemetry import TelemetryConfig
from pushd.config.transport import TransportConfig
from pushd.config.webpush import WebPushConfig

__all__ = [
    "ApnsConfig",
    "Config",
    "DialectsConfig",
    "EmailConfig",
    "FanoutConfig",
    "FcmConfig",
    "FeedConfig",
    "HmsConfig",
    "HttpConfig",
    "ImportsConfig",
    "InboxConfig",
    "MemoryConfig",
    "PicturesConfig",
    "PlacesConfig",
    "ReceiptsConfig",
    "SafariConfig",
    "SchedulerConfig",
    "SecretsConfig",
    "StoreConfig",
    "TelemetryConfig",
    "TransportConfig",
    "WebPushConfig",
]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of a daemon."""

    http: HttpConfig = field(default_factory=HttpConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    fanout: FanoutConfig = field(default_factory=FanoutConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    apns: ApnsConfig = field(default_factory=ApnsConfig)
    fcm: FcmConfig = field(default_factory=FcmConfig)
    email: EmailConfig = field(default_factory=EmailConfig)
    hms: HmsConfig = field(default_factory=HmsConfig)
    safari: SafariConfig = field(default_factory=SafariConfig)
    webpush: WebPushConfig = field(default_factory=WebPushConfig)
    places: PlacesConfig = field(default_factory=PlacesConfig)
    receipts: ReceiptsConfig = field(default_factory=ReceiptsConfig)
    dialects: DialectsConfig = field(default_factory=DialectsConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    imports: ImportsConfig = field(default_factory=ImportsConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    feed: FeedConfig = field(default_factory=FeedConfig)
    inbox: InboxConfig = field(default_factory=InboxConfig)
    secrets: SecretsConfig = field(default_factory=SecretsConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
