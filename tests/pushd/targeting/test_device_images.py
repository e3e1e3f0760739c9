"""Images of devices: one by one and as columns."""

import numpy as np
import pytest

from pushd.model.audience import Broadcast, Tags, UserNumbers
from pushd.model.device import ALERT_KINDS, Environment, Kind, Route
from pushd.model.rows import DeviceFlag
from pushd.targeting import Index
from pushd.targeting.device_images import FEW_ROWS

from .naive import LIVE, ROUTES, DeviceImage, UserImage, device_rows, user_rows

CROWD = FEW_ROWS + 8


def many(**fields):
    """The same change of more devices than are taken one by one, or of one."""
    return [DeviceImage(key, **fields) for key in range(1, CROWD + 1)]


@pytest.mark.parametrize("count", [1, CROWD])
def test_a_device_moves_route_user_and_tags_at_once(count):
    index = Index()
    index.apply_users(user_rows(UserImage(1, external="a", tags=(3,)), UserImage(2, external="b")))
    index.apply_devices(device_rows(*many(route=1, user=1, tags=(1,), token=b"x" * 64)[:count]))
    assert len(index.resolve(1, Tags(any=["strasse"], of="user"), ALERT_KINDS).devices) == count
    index.apply_devices(device_rows(*many(revision=2, route=2, user=2, tags=(2,), token=b"y" * 80)[:count]))
    sent = index.resolve(1, Broadcast(), ALERT_KINDS).devices
    assert [(route, len(devices)) for route, devices in index.routes(1, sent)] == [(ROUTES[2], count)]
    for audience, size in (
        (Tags(any=["news"]), 0),
        (Tags(any=["sport"]), count),
        (Tags(any=["strasse"]), 0),
        (UserNumbers([1]), 0),
        (UserNumbers([2]), count),
    ):
        assert len(index.resolve(1, audience, ALERT_KINDS).devices) == size
    assert set(index.columns(sent.column()).tokens.tolist()) == {b"y" * 80}


@pytest.mark.parametrize("count", [1, CROWD])
def test_an_older_image_changes_nothing(count):
    index = Index()
    index.apply_devices(device_rows(*many(revision=5, tags=(1,))[:count]))
    index.apply_devices(device_rows(*many(revision=5, flags=0)[:count]))
    index.apply_devices(device_rows(*many(revision=4, flags=int(DeviceFlag.DELETED))[:count]))
    assert len(index.resolve(1, Tags(any=["news"]), ALERT_KINDS).devices) == count


@pytest.mark.parametrize("count", [1, CROWD])
def test_a_deleted_device_gives_back_what_it_held(count):
    index = Index()
    index.apply_devices(device_rows(*many(user=1, tags=(1,), token=b"x" * 64)[:count]))
    held = index.stats()["token_bytes"]
    for turn in range(2, 40, 2):
        index.apply_devices(device_rows(*many(revision=turn, flags=int(DeviceFlag.DELETED), user=1, tags=(1,))[:count]))
        assert not index.resolve(1, Broadcast(), frozenset(Kind)).devices
        assert index.resolve(1, Broadcast(), frozenset(Kind)).skipped == {}
        index.apply_devices(device_rows(*many(revision=turn + 1, user=1, tags=(1,), token=b"x" * 64)[:count]))
    assert index.stats()["token_bytes"] <= held + 8 * 1024


def test_a_chunk_may_hold_rows_of_many_apps_that_share_their_postings():
    apps = range(1, 101)
    routes = {app: Route(app, Kind.APNS, Environment.PRODUCTION, f"bundle {app}") for app in apps}
    images = [
        DeviceImage(app * 10 + n, route=app, tags=(app * 2, app * 2 + 1)[: n + 1]) for n in (0, 1) for app in apps
    ]
    names = {app * 2 + n: ("Red", "Blue")[n] for app in apps for n in (0, 1)}
    index = Index()
    index.apply_devices(device_rows(*images, routes=routes, names=names))
    for app in apps:
        assert list(index.resolve(app, Tags(any=["red"]), ALERT_KINDS).devices) == [app * 10, app * 10 + 1]
        assert list(index.resolve(app, Tags(any=["blue"]), ALERT_KINDS).devices) == [app * 10 + 1]


def test_an_empty_chunk_is_fine():
    index = Index()
    index.apply_devices(device_rows())
    index.apply_users(user_rows())
    assert index.stats()["devices"] == 0


def test_images_are_not_kept_by_reference():
    rows = device_rows(*many(token=b"x" * 64))
    index = Index()
    index.apply_devices(rows)
    for column in (rows.ids, rows.revisions, rows.flags, rows.tokens):
        column[:] = 0 if column.dtype.kind != "S" else b"z"
    assert set(index.columns(np.arange(1, CROWD + 1, dtype=np.uint32)).tokens.tolist()) == {b"x" * 64}
    assert len(index.resolve(1, Broadcast(), ALERT_KINDS).devices) == CROWD
    assert LIVE == 3
