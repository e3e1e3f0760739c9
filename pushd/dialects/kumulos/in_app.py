"""In-app messages of Kumulos's as back ends send them, and the templates that they are made by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from pushd.commands import in_app, templates
from pushd.dialect import Dialect
from pushd.dialects.kumulos import message, target, when, wire
from pushd.dialects.kumulos.fields import Fields
from pushd.dialects.kumulos.target import Target
from pushd.errors import NotFoundError, UnknownTargetsError
from pushd.model.in_app import DAY_S, InAppPush, InAppView, InboxEntry, NewInApp, PresentedWhen, Ttl
from pushd.model.template import NewTemplate, Template, TemplateChange, TemplateKind, TemplateRef
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PRESENTED = {
    "immediately": PresentedWhen.IMMEDIATELY,
    "next-open": PresentedWhen.NEXT_OPEN,
    "never": PresentedWhen.NEVER,
}
UNITS = {"d": "days", "h": "hours"}
EXPIRES_MAX = 365
_SECOND = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """An in-app message that was asked for, and parts of it as they were said."""

    new: NewInApp
    target: Target
    given: Fields


async def send(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/in-app-messages."""
    caller = await wire.server(kumulos, incoming)
    asked = parse(await wire.body(kumulos, incoming))
    try:
        done = orjson.loads((await in_app.create(kumulos.context, caller.app, asked.new)).body)
    except UnknownTargetsError as error:
        missing = target.errors(error.extra.get("targets"), asked.target)
        return wire.told({"message": None, "errors": missing or {}}, 400)
    view = await in_app.get(kumulos.context, caller.app, done["id"])
    shown = _shown(asked, view, caller.app, kumulos.context.config.inbox.keep_days * DAY_S)
    return wire.told({"errors": target.errors(done.get("errors"), asked.target), "message": shown}, 202)


def parse(given: Fields) -> Asked:
    """What a body asks for; InvalidRequestError with every fault."""
    whom = target.of(given.within("target", required=True) or Fields({}))
    uid = given.text("template", required=True)
    presented = given.choice("presentedWhen", PRESENTED, required=True)
    ttl = _ttl(given.within("ttl", required=presented is not None and presented is not PresentedWhen.NEVER))
    times = when.times_of(given)
    new = NewInApp(
        audience=whom.audience,
        template=None if uid is None else TemplateRef(uid=uid),
        content_tags=given.object("content") or {},
        presented_when=presented or PresentedWhen.NEVER,
        ttl=None if presented is PresentedWhen.NEVER else ttl,
        data=given.object("data"),
        inbox=_inbox(given.within("inbox")),
        push=_push(given, given.within("notification")),
        schedule=times.get("schedule"),
        intelligent_delivery=times.get("intelligent_delivery", False),
        release_window_minutes=times.get("release_window_minutes"),
    )
    given.check()
    return Asked(new, whom, given)


def _ttl(given: Fields | None) -> Ttl | None:
    if given is None:
        return None
    units = given.choice("units", UNITS, required=True)
    count = given.number("expiresIn", 1, EXPIRES_MAX, required=True)
    return None if units is None or count is None else Ttl(**{units: count})


def _push(whole: Fields, given: Fields | None) -> InAppPush | None:
    user_meta, reporting_meta = message.user_meta(whole), whole.object("reportingMeta") or {}
    if given is None:
        return None
    title = given.text("title", message.TEXT_CHARS_MAX, required=True)
    text = given.text("message", message.MESSAGE_CHARS_MAX, required=True)
    return InAppPush(
        message=message.said(given, title=title, body=text),
        ttl_s=message.ttl_of(given),
        user_meta=user_meta,
        reporting_meta=reporting_meta,
    )


def _inbox(given: Fields | None) -> InboxEntry | None:
    if given is None:
        return None
    title = given.text("title", message.TEXT_CHARS_MAX, required=True)
    subtitle = given.text("subtitle", message.TEXT_CHARS_MAX, required=True)
    availability = given.within("availability") or Fields({})
    return InboxEntry(
        title=title or "",
        subtitle=subtitle,
        image=given.url("imageUrl"),
        available_from=_instant(availability, "from"),
        available_to=_instant(availability, "to"),
    )


def _instant(given: Fields, name: str) -> float | None:
    said = given.text(name)
    if said is None:
        return None
    try:
        if _SECOND.fullmatch(said):
            return datetime.fromisoformat(said).replace(tzinfo=UTC).timestamp()
    except ValueError:  # the 30th of February
        pass
    given.bad(name, "is not a time as Y-m-d H:i:s")
    return None


def _shown(asked: Asked, view: InAppView, app_id: int, keep_s: float) -> dict[str, Any]:
    """A message as it is told: what was said of it as it was said, and `content` as it came out of the template."""
    given = asked.given
    return {
        "id": view.id,
        "status": "queued",
        "target": asked.target.said,
        "data": given.get("data"),
        "reportingMeta": given.get("reportingMeta"),
        "badge": None,
        "schedule": given.get("schedule"),
        "updatedAt": wire.iso(view.updated_at),
        "createdAt": wire.iso(view.created_at),
        "isTemplate": False,
        "parentMessageId": None,
        "sentAt": wire.iso_or_none(view.released_at),
        "recurrence": None,
        "completedAt": None,
        "hasEditedSchedule": False,
        "hasEditedContent": False,
        "intelligentDeliveryAsap": asked.new.intelligent_delivery,
        "releaseWindowMinutes": asked.new.release_window_minutes,
        "children": [],
        "appId": app_id,
        "template": given.get("template"),
        "content": wire.plain_json(view.content),
        "presentedWhen": given.get("presentedWhen"),
        "ttl": given.get("ttl"),
        "inbox": _inbox_shown(view, keep_s),
        "notification": _push_shown(asked),
    }


def _inbox_shown(view: InAppView, keep_s: float) -> dict[str, Any] | None:
    inbox = view.inbox
    if inbox is None:
        return None
    begin = inbox.available_from or view.released_at or view.send_at or view.created_at
    return {
        "visibleFrom": wire.iso(begin),
        "visibleTo": wire.iso(inbox.available_to or begin + keep_s),
        "title": inbox.title,
        "subtitle": inbox.subtitle,
        "imageUrl": inbox.image,
    }


def _push_shown(asked: Asked) -> dict[str, Any] | None:
    push = asked.given.get("notification")
    if push is None or asked.new.push is None:
        return None
    names = ("title", "message", "ios", "android")
    return {**{name: push.get(name) for name in names}, "ttl": asked.new.push.ttl_s}


# Templates --------------------------------------------------------------------------------------------------------


async def create_template(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/templates/in-app."""
    caller = await wire.server(kumulos, incoming)
    given = await wire.body(kumulos, incoming)
    name, uid = given.text("name", required=True), given.text("uid", required=True)
    content = given.within("content", required=True)
    given.check()
    new = NewTemplate(
        name=name or "", uid=uid, kind=TemplateKind.IN_APP, content=None if content is None else dict(content.given)
    )
    made = await templates.create(kumulos.context, caller.app, new)
    return wire.told(_template(made, caller.app), 201)


async def change_template(kumulos: Dialect, incoming: Incoming) -> Answer:
    """PUT /v1/templates/in-app/{uid}."""
    caller = await wire.server(kumulos, incoming)
    uid = wire.path_text(incoming)
    if (await templates.get(kumulos.context, caller.app, uid)).kind is not TemplateKind.IN_APP:
        raise NotFoundError("There is no such in-app template")
    given = await wire.body(kumulos, incoming)
    name, content = given.text("name"), given.within("content")
    given.check()
    fields: dict[str, Any] = {} if name is None else {"name": name}
    if content is not None:
        fields["content"] = dict(content.given)
    made = await templates.update(kumulos.context, caller.app, uid, TemplateChange(**fields))
    return wire.told(_template(made, caller.app))


def _template(made: Template, app_id: int) -> dict[str, Any]:
    return {
        "name": made.name,
        "uid": made.uid,
        "content": made.content,
        "dynamicContentTags": [*made.required_tags, *made.optional_tags],
        "updatedAt": wire.iso(made.updated_at),
        "createdAt": wire.iso(made.created_at),
        "appId": app_id,
    }
