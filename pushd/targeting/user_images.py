"""Applying whole images of users: their external ids, and their tags onto their devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Users
from pushd.model.rows import UserRows
from pushd.targeting.device_images import post
from pushd.targeting.devices import newest
from pushd.targeting.population import Population, difference
from pushd.targeting.postings import Pairs, groups, merge
from pushd.targeting.tenants import Tenant

FEW_ROWS = 12
"""Up to here one at a time is faster than columns."""


def apply_users(population: Population, rows: UserRows) -> None:
    """Takes in the images that are newer than what is known."""
    if len(rows) <= FEW_ROWS:
        for at in range(len(rows)):
            _apply_one(population, rows, at)
    else:
        _apply_many(population, rows)


def _apply_one(population: Population, rows: UserRows, at: int) -> None:
    user, revision, app_id = rows.ids.item(at), rows.revisions.item(at), rows.app_ids.item(at)
    population.reach_users(user + 1)
    users = population.users
    if revision <= users.revisions.cells[user] or app_id in population.removed:
        return
    tenant = population.tenant(app_id)
    users.revisions.cells[user] = revision
    alive = not rows.deleted.item(at)
    _rest_many(population, tenant, rows.ids[at : at + 1], rows.quiet[at : at + 1] * alive)
    numbers: list[int] = []
    if alive:
        users.apps.cells[user] = app_id
        tenant.users.add(user)
        population.identities.put(user, app_id, rows.external_ids[at])
        tag_ids = rows.tags.ids[rows.tags.offsets.item(at) : rows.tags.offsets.item(at + 1)].tolist()
        numbers = population.numbers(tenant, tag_ids, rows.tags.names)
        given = [rows.attributes.get(at, {})]
        numbers += _know_many(population, app_id, [user], [rows.emails.get(at, "")], given)[1].tolist()
    elif users.apps.cells[user]:
        _know_many(population, app_id, [user], [""], [{}])
        users.apps.cells[user] = 0
        tenant.users.discard(user)
        population.identities.drop_many(rows.ids[at : at + 1])
    before, after = set(population.carried.get(users.tag_places.cells[user])), set(numbers)
    if before != after:
        for device in population.owners.of(user):
            tenant.tags.discard("by_user", device, before - after)
            tenant.tags.add("by_user", device, after - before)
        population.carried.free(users.tag_places.cells[user])
        users.tag_places.cells[user] = population.carried.put(numbers)


def _apply_many(population: Population, rows: UserRows) -> None:
    population.reach_users(int(rows.ids.max()) + 1)
    taken = newest(rows.ids, rows.revisions, population.users.revisions)
    if population.removed:
        taken = taken[~np.isin(rows.app_ids[taken], list(population.removed))]
    if not len(taken):
        return
    ids, app_ids, alive = rows.ids[taken], rows.app_ids[taken], ~rows.deleted[taken]
    population.users.revisions.data[ids] = rows.revisions[taken]
    _identify_many(population, rows, taken)
    labels: list[Pairs] = []
    for app_id, chosen in groups(app_ids):
        tenant = population.tenant(app_id)
        tenant.users -= Users.of(ids[chosen][~alive[chosen]])
        tenant.users |= Users.of(ids[chosen][alive[chosen]])
        _rest_many(population, tenant, ids[chosen], np.where(alive, rows.quiet[taken], 0)[chosen])
        given = [
            row if there else -1 for row, there in zip(taken[chosen].tolist(), alive[chosen].tolist(), strict=True)
        ]
        emails = [rows.emails.get(row, "") for row in given]
        attributes = [rows.attributes.get(row, {}) for row in given]
        at, theirs = _know_many(population, app_id, ids[chosen].tolist(), emails, attributes)
        labels.append((np.arange(len(ids))[chosen][at], theirs))
    positions, numbers = population.numbers_of_rows(rows.tags, taken[alive], app_ids[alive])
    _tag_many(population, ids, merge([(np.flatnonzero(alive)[positions], numbers), *labels]), app_ids)


def _identify_many(population: Population, rows: UserRows, taken: NDArray[np.intp]) -> None:
    ids, app_ids, alive = rows.ids[taken], rows.app_ids[taken], ~rows.deleted[taken]
    there = population.users.apps.data[ids] != 0
    population.users.apps.data[ids] = np.where(alive, app_ids, 0)
    population.identities.drop_many(ids[there & ~alive])
    new = np.flatnonzero(alive & ~there)
    if len(new):
        texts = [rows.external_ids[row] for row in taken[new].tolist()]
        population.identities.put_many(ids[new], app_ids[new], texts)
    for row in taken[alive & there].tolist():
        population.identities.put(rows.ids.item(row), rows.app_ids.item(row), rows.external_ids[row])


def _rest_many(population: Population, tenant: Tenant, ids: NDArray[np.uint32], quiet: NDArray[np.uint32]) -> None:
    """Knows quiet hours of users of one app, 0 where they have none."""
    column = population.users.quiet.data
    had = column[ids] != 0
    if had.any():
        tenant.quiet -= Users.of(ids[had])
    if quiet.any():
        tenant.quiet |= Users.of(ids[quiet != 0])
    column[ids] = quiet


def _know_many(
    population: Population,
    app_id: int,
    users: list[int],
    emails: list[str],
    attributes: Sequence[Mapping[str, Any]],
) -> Pairs:
    """Takes in what is known of users of one app, in place of what was known before; their labels by position."""
    ids = np.array(users, np.uint32)
    before = population.users.emails.data[ids]
    if any(emails) or before.any():
        _mail_many(population, app_id, ids, before, emails)
    places = population.users.attribute_places.data
    kept, had = population.attributes_of(app_id), places[ids]
    if had.any():
        old = np.flatnonzero(had)
        kept.clear(ids[old].tolist(), [population.carried.get(place) for place in had[old].tolist()])
        population.carried.free_many(had[old])
        places[ids[old]] = 0
    rows = [row for row, given in enumerate(attributes) if given]
    if not rows:
        return np.zeros(0, np.intp), np.zeros(0, np.uint32)
    theirs = np.array(rows, np.intp)
    (at, numbers), (positions, labels) = kept.put(ids[theirs], [attributes[row] for row in rows])
    places[ids[theirs]] = population.carried.put_many(numbers, np.bincount(at, minlength=len(rows)))
    return theirs[positions], labels


def _mail_many(
    population: Population, app_id: int, ids: NDArray[np.uint32], before: NDArray[np.uint32], emails: list[str]
) -> None:
    after = np.zeros(len(ids), np.uint32)
    texts, held, fresh, folded = population.texts, before.tolist(), [], []
    for row, email in enumerate(emails):
        if email:
            text = email.lower()
            if held[row] and texts.text(held[row]) == text:
                after[row] = held[row]
            else:
                fresh.append(row)
                folded.append(text)
    if fresh:
        after[fresh] = texts.take_many(np.full(len(fresh), app_id, np.int32), folded)
        population.reach_texts(population.emails)
    had, has = (before != after) & (before != 0), (before != after) & (after != 0)
    population.emails.unlink_many(before[had], ids[had])
    population.emails.link_many(after[has], ids[has])
    population.users.emails.data[ids] = after
    texts.drop_many(before[had])


def _tag_many(population: Population, ids: NDArray[np.uint32], after: Pairs, app_ids: NDArray[np.int32]) -> None:
    places = population.users.tag_places.data
    before_places = places[ids]
    gone, come = difference(population.carried.get_many(before_places), after)
    if len(gone[0]) or len(come[0]):
        owners, devices = population.owners.of_many(ids)
        order = np.argsort(owners, kind="stable")
        owners, devices = owners[order], devices[order]
        counts = np.bincount(owners, minlength=len(ids))
        post(population, "by_user", devices, app_ids[owners], _spread(gone, counts), _spread(come, counts))
    population.carried.free_many(before_places)
    places[ids] = population.carried.put_many(after[1], np.bincount(after[0], minlength=len(ids)))


def _spread(pairs: Pairs, counts: NDArray[np.intp]) -> Pairs:
    """Pairs (user, number) as pairs (device, number): users have `counts` devices, which stand in their order."""
    positions, numbers = pairs
    starts = np.cumsum(counts) - counts
    times = counts[positions]
    within = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(starts[positions], times) + within, np.repeat(numbers, times)


def remove_users(population: Population, ids: NDArray[np.uint32]) -> None:
    """Turns users of an app that is going into tombstones."""
    users = population.users
    for app_id, chosen in groups(users.apps.data[ids]):
        _know_many(population, app_id, ids[chosen].tolist(), [""] * len(ids[chosen]), [{}] * len(ids[chosen]))
    population.identities.drop_many(ids)
    population.carried.free_many(users.tag_places.data[ids])
    users.tag_places.data[ids] = 0
    users.quiet.data[ids] = 0
    users.apps.data[ids] = 0
