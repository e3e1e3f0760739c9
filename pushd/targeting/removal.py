"""Forgetting everything of an app, in steps: nobody finds any of it from the first one on."""

from __future__ import annotations

from collections.abc import Iterator

from pushd.targeting import device_images, user_images
from pushd.targeting.population import Population

PLACES_AT_ONCE, DEVICES_AT_ONCE, USERS_AT_ONCE = 65_536, 2_048, 1_024
"""Some ms each."""


def removal(population: Population, app_id: int) -> Iterator[None]:
    """Steps between which others may ask: the app's own sets go first, then the rows that stood in them."""
    population.removed.add(app_id)
    population.definitions.pop(app_id, None)
    located = population.places.remove_app(app_id)
    for watch in population.watches:
        watch.remove_app(app_id)
    tenant = population.tenants.pop(app_id, None)
    yield
    for start in range(0, len(places := located.column()), PLACES_AT_ONCE):
        population.places.clear(places[start : start + PLACES_AT_ONCE])
        yield
    if tenant is None:
        return
    devices, users = tenant.known.column(), tenant.users.column()
    for start in range(0, len(devices), DEVICES_AT_ONCE):
        device_images.remove_devices(population, devices[start : start + DEVICES_AT_ONCE])
        yield
    for start in range(0, len(users), USERS_AT_ONCE):
        user_images.remove_users(population, users[start : start + USERS_AT_ONCE])
        yield
    population.attributes.pop(app_id, None)
