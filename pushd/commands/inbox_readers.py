"""Whoever reads an inbox: what texts of messages may say of them, and what each message says to them."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, get_args

import msgspec

from pushd.commands.context import Context
from pushd.content.in_app import Document, InAppScript
from pushd.content.personal import DEVICE_FIELDS
from pushd.inbox.catalogue import Reader
from pushd.model.in_app import InAppBody
from pushd.store.in_app_rows import Message
from pushd.targeting.facets import Facet

TURN_S = 0.002
"""How long messages are rendered for one reader before others get their turn."""


def differs(body: InAppBody) -> bool:
    """Whether a message says something else to each of its readers."""
    return body.liquid or bool(body.locales)


class Person:
    """One reader: what is known of him is looked up once it is asked for."""

    def __init__(self, context: Context, reader: Reader, external_id: str | None) -> None:
        self._context = context
        self._app_id = reader.app_id
        self._external_id = external_id
        devices = reader.devices or (context.index.devices_of(reader.user) if reader.user else reader.devices)
        self._people = context.index.people(reader.app_id, devices.column()[:1]) if devices else None
        self._device = dict.fromkeys(sorted(DEVICE_FIELDS), "")
        if self._people is not None:
            self._device = {name: self._people.facet(name)[0] for name in get_args(Facet)}
        self._attributes: dict[str, Any] | None = None
        self._turn = monotonic()

    async def document(self, body: InAppBody, message: Message | None) -> Document | None:
        """What a message that differs says to this reader; None where a text of it fails."""
        script = None if message is None else message.script
        if script is None:
            base = msgspec.json.decode(msgspec.json.encode({"content": body.content, "data": body.data}))
            base["inbox"] = msgspec.to_builtins(body.inbox)
            script = InAppScript(base, body.locales, body.content_tags, liquid=body.liquid)
            if message is not None:
                message.script = script
        user = {name: value for name in script.needs.user if (value := await self._of_user(name)) is not None}
        if monotonic() - self._turn > TURN_S:
            await asyncio.sleep(0)
            self._turn = monotonic()
        made: Document | None = script.document(self._device["locale"], user, self._device, self._context.clock.now())
        return made

    async def _of_user(self, name: str) -> Any:
        if self._people is None:
            return await self._of_stored(name)
        if name == "id":
            return self._people.external_ids()[0]
        if name == "email":
            return self._people.emails()[0]
        return self._people.attribute(name)[0]

    async def _of_stored(self, name: str) -> Any:
        """Of a user without devices, whom the index has no row to ask by."""
        if self._external_id is None:
            return None
        if self._attributes is None:
            found = await self._context.store.users.get(self._app_id, self._external_id)
            own = {} if found is None else found.attributes
            self._attributes = {**own, "id": self._external_id, "email": None if found is None else found.email}
        return self._attributes.get(name)
