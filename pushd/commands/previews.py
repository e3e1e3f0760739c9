"""Previews: what one user, or one device, would get of a template, on every platform, before anything is sent."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import orjson
from msgspec import Struct

from protocols import apns
from pushd.commands.context import Context
from pushd.commands.personal import as_liquid, prepare, refuse_missing
from pushd.content.kinds import kinds
from pushd.content.liquid import TemplateError
from pushd.content.merge import merge
from pushd.content.personal import DEVICE_FIELDS, Script, fallbacks, fold, is_personal, needs, rendered
from pushd.content.platforms import render
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast, UserIds
from pushd.model.device import ID_MAX, GatewayName, Kind
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.template import Locale, Tags, TemplateKind, TemplateRef, Version
from pushd.outcome import Reason
from pushd.store.templates import StoredTemplate
from pushd.targeting.facets import Facet


class PreviewAsk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For whom a preview is, and what fills the gaps."""

    version: Version | None = None
    user: str | None = None
    """An external id; absent: somebody of whom nothing is known."""
    locale: Locale | None = None
    """Of the device; absent: that of one of the user's devices."""
    content_tags: Tags = {}
    user_data: Tags = {}
    """That user's own."""


class PlatformPreview(Struct, frozen=True, kw_only=True):
    """What one platform is given."""

    payload: Any
    """JSON as it goes out; null where nothing does."""
    headers: dict[str, str] = {}
    bytes: int = 0
    reason: str | None = None
    """Why nothing goes out there."""


class Preview(Struct, frozen=True, kw_only=True):
    """What comes out."""

    version: int
    locale: str
    """Of the variant, folded; empty: the template itself."""
    message: Message | None = None
    content: dict[str, Any] | None = None
    platforms: dict[str, PlatformPreview] = {}


async def preview(context: Context, app_id: int, uid: str, ask: PreviewAsk) -> Preview:
    """What one user would get. NotFoundError for template or user; InvalidRequestError where nothing comes out."""
    app = await context.store.apps.get(app_id)
    stored = await context.store.templates.get(app_id, uid, ask.version)
    if app is None or stored is None:
        raise NotFoundError("There is no such template, or it has no such version")
    user, device = await _person(context, app_id, ask)
    ours = {ask.user: ask.user_data} if ask.user is not None else {}
    wanted = Send(
        audience=UserIds(ids=[ask.user]) if ask.user is not None else Broadcast(),
        template=TemplateRef(uid=uid, version=stored.version),
        content_tags=ask.content_tags if ask.user is not None else {**ask.content_tags, **ask.user_data},
        user_data=ours,
    )
    try:
        if stored.body.kind is TemplateKind.IN_APP:
            return _content(context, stored, wanted, user, device, ask.user)
        known = {TemplateRef(uid=uid, version=stored.version): stored}
        return _message(context, app.settings, await prepare(context, app_id, wanted, known), user, device, ask.user)
    except TemplateError as error:
        fault = Fault("/content_tags", str(error))
        raise InvalidRequestError("The template cannot be rendered", faults=[fault]) from None


def _message(
    context: Context, settings: Settings, send: Send, user: dict[str, Any], device: dict[str, str], name: str | None
) -> Preview:
    message, locale, now = send.message, "", context.clock.now()
    if is_personal(send):
        script = Script(send)
        number = script.variant(device["locale"])
        locale = script.locales[number]
        message = script.message(number, script.values(user, device, name), now)
    whole = msgspec.structs.replace(send, message=message)
    platforms = {}
    for gateway in sorted({kind.gateway for kind in kinds(message.push_type)}):
        platforms[gateway.value] = _platform(gateway, whole, settings, now)
    assert send.template is not None
    assert send.template.version is not None
    return Preview(version=send.template.version, locale=locale, message=message, platforms=platforms)


def _platform(gateway: GatewayName, send: Send, settings: Settings, now: float) -> PlatformPreview:
    made = render(gateway, send, settings, notification_id=ID_MAX, now=now)
    if isinstance(made, Reason):
        return PlatformPreview(payload=None, reason=made.name)
    headers = {name: value for name, value in made.headers if "." not in name and not name.startswith("pushd-")}
    if made.collapse_id is not None:
        headers[apns.COLLAPSE_ID] = made.collapse_id
    return PlatformPreview(payload=orjson.loads(made.payload), headers=headers, bytes=len(made.payload))


def _content(
    context: Context,
    stored: StoredTemplate,
    send: Send,
    user: dict[str, Any],
    device: dict[str, str],
    name: str | None,
) -> Preview:
    body = stored.body
    by_locale = {fold(locale): patch for locale, patch in body.locales.items()}
    locale = next((each for each in fallbacks(device["locale"]) if each in by_locale), "")
    content = as_liquid(merge(body.content, by_locale.get(locale, {})), body.syntax)
    refuse_missing(needs(content, "/content"), send)
    script = Script(msgspec.structs.replace(send, message=Message(body="")))
    made = rendered(content, script.values(user, device, name), context.clock.now())
    return Preview(version=stored.version, locale=locale, content=made)


async def _person(context: Context, app_id: int, ask: PreviewAsk) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of a user, and of one of the user's devices; NotFoundError."""
    device = dict.fromkeys(sorted(DEVICE_FIELDS), "")
    if ask.locale is not None:
        device["locale"] = fold(ask.locale)
    if ask.user is None:
        return {}, device
    found = await context.store.users.get(app_id, ask.user)
    if found is None:
        raise NotFoundError("There is no such user")
    (theirs,) = context.index.each_user(app_id, [ask.user], frozenset(Kind))
    if theirs:
        people = context.index.people(app_id, theirs.column()[:1])
        known = {name: people.facet(name)[0] for name in get_args(Facet)}
        device = {**known, "locale": device["locale"] or known["locale"]}
    return {**found.attributes, "id": found.external_id, "email": found.email}, device
