"""What the index holds: counts, and bytes by part."""

from __future__ import annotations

from pushd.targeting.population import Population


def statistics(population: Population) -> dict[str, int]:
    """Counts of what is there, and bytes held by part; bitmaps are counted as they would be serialised."""
    tenants = population.tenants.values()
    places = population.places
    bitmaps = [bitmap for tenant in tenants for bitmap in tenant.bitmaps()] + [*places.bitmaps()]
    return {
        "apps": len(tenants),
        "devices": sum(len(tenant.known) for tenant in tenants),
        "reachable": sum(len(tenant.reachable) for tenant in tenants),
        "users": sum(len(tenant.users) for tenant in tenants),
        "tags": sum(len(tenant.tags) for tenant in tenants),
        "routes": len(population.routes),
        "profiles": len(population.profiles),
        "attributes": sum(len(attributes.columns) for attributes in population.attributes.values()),
        "texts": len(population.texts),
        **places.stats(),
        "device_bytes": population.devices.nbytes + population.owners.following.nbytes,
        "home_bytes": population.homes.nbytes,
        "profile_bytes": population.profiles.nbytes,
        "text_bytes": population.texts.nbytes,
        "text_owner_bytes": population.aliases.nbytes + population.emails.nbytes,
        "attribute_bytes": sum(attributes.nbytes for attributes in population.attributes.values()),
        "user_bytes": population.users.nbytes + population.owners.first.nbytes + population.owners.counts.nbytes,
        "identity_bytes": population.identities.nbytes,
        "tag_list_bytes": population.carried.nbytes,
        "bitmap_bytes": sum(bitmap.nbytes for bitmap in bitmaps),
        "token_bytes": population.devices.tokens.nbytes,
        "external_id_bytes": population.identities.text_nbytes,
        "shared_text_bytes": population.texts.text_nbytes,
    }
