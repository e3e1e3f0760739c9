"""In-app messages that differ by reader: their variants by locale, and what comes out of their gaps for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pushd.content.liquid import TemplateError
from pushd.content.merge import merge
from pushd.content.personal import DEVICE, USER, Needs, fallbacks, fold, needs, rendered
from pushd.errors import Fault, InvalidRequestError
from pushd.model.in_app import InAppVariants, InboxEntry

Document = dict[str, Any]
"""`content`, `data` and `inbox` of a message, as JSON has them."""


def documents(base: Document, locales: InAppVariants) -> dict[str, Document]:
    """What a message says by folded locale, the empty one first; InvalidRequestError points at what cannot be."""
    made, faults = {"": base}, []
    for locale, patch in locales.items():
        at = f"/locales/{locale}"
        if fold(locale) in made:
            faults.append(Fault(at, "is there twice"))
        if patch.inbox and base["inbox"] is None:
            faults.append(Fault(f"{at}/inbox", "is of messages that are in the inbox"))
            continue
        whole = {
            "content": merge(base["content"], patch.content),
            "data": merge(base["data"] or {}, patch.data) if patch.data else base["data"],
            "inbox": merge(base["inbox"], patch.inbox) if patch.inbox else base["inbox"],
        }
        try:
            msgspec.convert(whole["inbox"], InboxEntry | None)
        except msgspec.ValidationError as error:
            faults.append(Fault(f"{at}/inbox", str(error)))
        made[fold(locale)] = whole
    if faults:
        raise InvalidRequestError("A variant cannot be", faults=faults)
    return made


class InAppScript:
    """What a message says to each of its readers."""

    def __init__(self, base: Document, locales: InAppVariants, tags: Mapping[str, Any], *, liquid: bool) -> None:
        self._documents = documents(base, locales)
        self._tags = tags
        self._liquid = liquid
        self.needs = needs([*self._documents.values()]) if liquid else Needs()
        """What its texts read."""

    def document(self, locale: str, user: Mapping[str, Any], device: Mapping[str, Any], now: float) -> Document | None:
        """What a reader of a folded locale is given; None where a text fails for him, or makes no inbox entry."""
        whole = next((self._documents[each] for each in fallbacks(locale) if each in self._documents), None)
        document = self._documents[""] if whole is None else whole
        if not self._liquid:
            return document
        try:
            made: Document = rendered(document, {**self._tags, USER: user, DEVICE: device}, now)
            msgspec.convert(made["inbox"], InboxEntry | None)
        except (TemplateError, msgspec.ValidationError):
            return None
        return made
