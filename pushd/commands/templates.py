"""Templates: made, changed, read, listed and deleted; sent to whom they are for; and read by in-app messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct

from pushd.commands import notifications
from pushd.commands.context import Context
from pushd.commands.notifications import Answer
from pushd.commands.personal import as_liquid, check_samples, united
from pushd.commands.text import check_text
from pushd.content.personal import Needs, needs, variants
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.app import App
from pushd.model.audience import Audience, Broadcast
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.template import (
    NewTemplate,
    Tags,
    Template,
    TemplateChange,
    TemplateKind,
    TemplateRef,
)
from pushd.store.templates import StoredTemplate


class TemplateSend(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a send by a template may say itself."""

    audience: Audience | None = None
    """Whom it reaches; absent: whom the template is for."""
    content_tags: Tags = {}
    user_data: dict[str, Tags] = {}
    user_meta: dict[str, dict[str, Any]] = {}
    name: str | None = None


async def create(context: Context, app_id: int, new: NewTemplate) -> Template:
    """The new template. InvalidRequestError where it cannot be, ConflictError where it finds no place."""
    check_text(new)
    await _check(context, app_id, new)
    made = await context.whole(context.store.templates.create(app_id, new.uid or str(uuid4()), new))
    return shown(made)


async def get(context: Context, app_id: int, uid: str, version: int | None = None) -> Template:
    """The template, at its newest version where none is named; NotFoundError."""
    return shown(await _get(context, app_id, uid, version))


async def list_page(
    context: Context, app_id: int, *, after: int, limit: int, name: str | None = None
) -> Sequence[Template]:
    """Templates with ids above `after`, ascending; with a name the one that has it."""
    if name is not None:
        found = await context.store.templates.named(app_id, name)
        return [shown(found)] if found is not None and found.id > after else []
    return [shown(each) for each in await context.store.templates.list(app_id, after, limit)]


async def versions(context: Context, app_id: int, uid: str, *, before: int, limit: int) -> Sequence[Template]:
    """Its versions below `before`, the newest first; NotFoundError."""
    found = await context.store.templates.versions(app_id, uid, before, limit)
    if found is None:
        raise NotFoundError("There is no such template")
    return [shown(each) for each in found]


async def update(context: Context, app_id: int, uid: str, change: TemplateChange) -> Template:
    """The template at a new version. NotFoundError, InvalidRequestError; ConflictError: another change was faster."""
    check_text(change)
    stored = await _get(context, app_id, uid, None)
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET}
    changed = msgspec.structs.replace(stored.body, **given)
    await _check(context, app_id, changed)
    made = await context.whole(context.store.templates.update(app_id, uid, stored.version, changed))
    if made is None:
        raise ConflictError("The template was changed meanwhile, or deleted")
    return shown(made)


async def delete(context: Context, app_id: int, uid: str) -> None:
    """Nothing, once the template is gone: what was sent or scheduled by it stays as it is. NotFoundError."""
    if not await context.whole(context.store.templates.delete(app_id, uid)):
        raise NotFoundError("There is no such template")


async def send(
    context: Context, app_id: int, uid: str, wanted: TemplateSend, idempotency: tuple[str, bytes] | None = None
) -> Answer:
    """The answer to a send by a template to whom it is for. As `notifications.send`, and NotFoundError."""
    stored = await _get(context, app_id, uid, None)
    audience = wanted.audience if wanted.audience is not None else stored.body.audience
    if audience is None:
        fault = Fault("/audience", "is needed: the template is for nobody by itself")
        raise InvalidRequestError("The send has no audience", faults=[fault])
    whole = Send(
        audience=audience,
        template=TemplateRef(uid=uid, version=stored.version),
        content_tags=wanted.content_tags,
        user_data=wanted.user_data,
        user_meta=wanted.user_meta,
        name=wanted.name,
    )
    return await notifications.send(context, app_id, whole, idempotency)


def shown(stored: StoredTemplate) -> Template:
    """The template as the API shows it."""
    body, needed = stored.body, _needs(stored.body)
    return Template(
        id=stored.id,
        uid=stored.uid,
        name=body.name,
        kind=body.kind,
        syntax=body.syntax,
        version=stored.version,
        message=body.message,
        content=body.content,
        locales=body.locales,
        audience=body.audience,
        ttl_s=body.ttl_s,
        device_templates=body.device_templates,
        required_tags=sorted(needed.required),
        optional_tags=sorted(needed.optional),
        user_attributes=sorted(needed.user),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def _needs(body: NewTemplate) -> Needs:
    """What a template reads in all of its variants; InvalidRequestError points at what cannot be."""
    field, value = ("/message", body.message) if body.kind is TemplateKind.NOTIFICATION else ("/content", body.content)
    parts = [needs(as_liquid(value, body.syntax), field)]
    for locale, patch in body.locales.items():
        parts.append(needs(as_liquid(patch, body.syntax), f"/locales/{locale}"))
    return united(parts)


async def _check(context: Context, app_id: int, new: NewTemplate) -> None:
    """Returns when a template can be; InvalidRequestError with every fault."""
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    wanted, other = ("message", "content") if new.kind is TemplateKind.NOTIFICATION else ("content", "message")
    faults = []
    if getattr(new, wanted) is None:
        faults.append(Fault(f"/{wanted}", f"is needed in a template of kind {new.kind.value}"))
    if getattr(new, other) is not None:
        faults.append(Fault(f"/{other}", f"has no meaning in a template of kind {new.kind.value}"))
    if faults:
        raise InvalidRequestError("The template is of another kind", faults=faults)
    _needs(new)
    if new.audience is not None:
        context.index.check(app_id, new.audience)
    if new.message is not None:
        await _check_message(context, app, new, new.message)


async def _check_message(context: Context, app: App, new: NewTemplate, message: Message) -> None:
    """Returns when every variant is a message that could be sent, as far as that shows before its gaps are filled."""
    message, locales = as_liquid(message, new.syntax), as_liquid(new.locales, new.syntax)
    variants(message, locales)
    whole = Send(audience=Broadcast(), message=message, locales=locales, liquid=True, ttl_s=new.ttl_s)
    await check_samples(context, app, whole)


async def _get(context: Context, app_id: int, uid: str, version: int | None) -> StoredTemplate:
    found = await context.store.templates.get(app_id, uid, version)
    if found is None:
        raise NotFoundError("There is no such template, or it has no such version")
    return found
