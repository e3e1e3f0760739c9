"""Places: limits of geofences, how long locations are kept, and the queue of what crossings send."""

from __future__ import annotations

from msgspec import Struct


class PlacesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of geofences and locations."""

    geofences_per_app_max: int = 10_000
    vertices_max: int = 5_000
    """Positions of one geofence, of all its rings together."""
    radius_max_m: float = 1_000_000.0
    """Of circles; beyond 5,000 km distances are no longer told within 0.1 %."""
    bounds_bytes_max: int = 512 * 1024
    """Of a geofence's GeoJSON, its properties included."""
    bounds_bytes_per_app_max: int = 64 * 1024 * 1024
    """Of the bounds of an app's geofences together, as JSON: every node has them in memory."""
    location_keep_s: int = 30 * 86_400
    """The age at which a device's location is forgotten; 0: never."""
    location_ahead_s: float = 300.0
    """How far a device's clock may be ahead; a location from later than this is refused."""
    sweep_interval_s: float = 60.0
    """How often locations are looked through for those that are too old."""
    sweep_rows_max: int = 1_000
    """Locations forgotten in one transaction."""
    crossings_waiting_max: int = 50_000
    """Crossings whose notifications are not accepted yet; past it a report that would add one is answered 503."""
    crossings_batch_max: int = 1_000
    """Crossings taken at once; those of one fence and direction among them become one notification."""
    crossing_life_s: float = 3_600.0
    """Age of a crossing after which its notification is not worth sending; shorter than `store.idempotency_keep_s`."""
    crossing_retry_s: float = 5.0
    """Between attempts while the fan-out is full or PostgreSQL away."""
