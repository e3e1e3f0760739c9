"""What is known of devices and of the people behind them, as columns in the order of the devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.targeting.attributes import AttributeColumn, Type
from pushd.targeting.facets import Facet
from pushd.targeting.population import Population

EXACT_MAX = 2.0**53
"""Whole numbers below this are kept as they were."""


class People:
    """The rows of some devices, as they are now. What an app does not have is empty, or None."""

    __slots__ = ("_app_id", "_ids", "_population", "_users")

    def __init__(self, population: Population, app_id: int, ids: NDArray[np.uint32]) -> None:
        self._population = population
        self._app_id = app_id
        size = len(population.devices.users.data)
        self._ids = ids if not len(ids) or int(ids.max()) < size else np.where(ids < size, ids, 0)
        self._users = population.devices.users.data[self._ids]

    def external_ids(self) -> list[str | None]:
        """Each device's user's own id; None where it has no user."""
        return self._texts(self._users, self._population.identities.text)

    def emails(self) -> list[str | None]:
        """Each user's address."""
        return self._texts(self._population.users.emails.data[self._users], self._population.texts.text)

    def attribute(self, name: str) -> list[Any]:
        """Each user's value: a number, a truth, a text or a list of texts. None: there is none, or it is an object."""
        attributes = self._population.attributes.get(self._app_id)
        column = attributes.find(name) if attributes else None
        if column is None:
            return [None] * len(self._users)
        users = self._users
        if len(users) and int(users.max()) >= len(column.types.data):
            users = np.where(users < len(column.types.data), users, 0)
        types = column.types.data[users]
        if ((types == Type.TEXT) | (types == Type.TIME) | (types == 0)).all():
            return self._texts(column.texts.data[users], self._population.texts.text)
        return self._mixed(column, users, types)

    def facet(self, facet: Facet) -> list[str]:
        """What each install runs on or in; empty where nobody said. Locales are folded: `pt-br`."""
        tenant = self._population.tenants.get(self._app_id)
        if tenant is None:
            return [""] * len(self._ids)
        names = tenant.facets.values[facet].names
        profiles = self._population.devices.profiles.data[self._ids]
        return [names[number] for number in self._population.profiles.numbers(facet, profiles).tolist()]

    def _mixed(self, column: AttributeColumn, users: NDArray[np.uint32], types: NDArray[np.uint8]) -> list[Any]:
        texts = self._population.texts.text
        out: list[Any] = []
        rows = zip(types.tolist(), column.numbers.data[users].tolist(), column.texts.data[users].tolist(), strict=True)
        for kind, number, text in rows:
            if kind in (Type.TEXT, Type.TIME):
                out.append(texts(text))
            elif kind == Type.NUMBER:
                out.append(int(number) if number.is_integer() and abs(number) < EXACT_MAX else number)
            elif kind == Type.BOOLEAN:
                out.append(bool(number))
            elif kind == Type.LIST:
                out.append([texts(each) for each in self._population.carried.get(text)])
            else:
                out.append(None)
        return out

    @staticmethod
    def _texts(numbers: NDArray[np.uint32], text: Callable[[int], str]) -> list[str | None]:
        """The texts of numbers, each looked up once; None for 0."""
        known: dict[int, str | None] = {0: None}
        out = []
        for number in numbers.tolist():
            found = known.get(number)
            if found is None and number:
                found = known[number] = text(number)
            out.append(found)
        return out
