"""What these tests register, send and settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pushd.bitset import Devices
from pushd.model.audience import Broadcast
from pushd.model.device import Registration
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.rows import DeviceRows
from pushd.store.notifications import Accept, Accepted
from pushd.store.settlements import Settlement
from pushd.store.store import Store

NOW = 1_800_000_000.0


def token(number: int) -> str:
    return f"{number:064x}"


def registration(install: int, **fields: Any) -> Registration:
    """An iPhone's registration, its token by the same number unless given."""
    given = {"install_id": f"install-{install}", "token": token(install), "bundle": "com.example"} | fields
    return Registration(**given)


def accept(app_id: int, node_id: int, devices: Devices, *, body: str = "hello", **fields: Any) -> Accept:
    said = {name: fields.pop(name) for name in ("delivery", "name", "badge_from") if name in fields}
    send = Send(audience=Broadcast(), message=Message(body=body), **said)
    given = {"created_at": time.time(), "released_at": time.time()} | fields
    return Accept(app_id=app_id, send=send, targeted=devices, node_id=node_id, **given)


async def accept_many(store: Store, accepts: Sequence[Accept]) -> list[Accepted | BaseException]:
    """What becomes of several sends that are accepted at once, errors in their places."""
    return await asyncio.gather(*(store.notifications.accept(each) for each in accepts), return_exceptions=True)


def rows_of(pairs: list[tuple[int, int]], code: int = 1, finished: tuple[int, ...] = ()) -> Settlement:
    """A settlement of (notification id, device id) rows that all ended the same way."""
    return Settlement(
        notifications=np.array([each for each, _ in pairs], np.int64),
        devices=np.array([device for _, device in pairs], np.uint32),
        gateways=np.zeros(len(pairs), np.int16),
        codes=np.full(len(pairs), code, np.int16),
        finished=finished,
    )


def image(rows: DeviceRows, device_id: int) -> dict[str, Any]:
    """One device's image, readable."""
    (row,) = np.flatnonzero(rows.ids == device_id)
    tags = rows.tags.ids[rows.tags.offsets[row] : rows.tags.offsets[row + 1]]
    return {
        "revision": int(rows.revisions[row]),
        "route": rows.routes[int(rows.route_ids[row])],
        "user": int(rows.user_ids[row]),
        "flags": int(rows.flags[row]),
        "token": rows.tokens[row].decode(),
        "tags": sorted(rows.tags.names[int(tag)] for tag in tags),
    }
