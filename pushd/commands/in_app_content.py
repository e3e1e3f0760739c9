"""What in-app messages say: with their template's content, and checked, before they are kept."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import UNSET

from pushd.commands.context import Context
from pushd.commands.personal import as_liquid, check_badge, refuse_missing, united
from pushd.commands.planning import examine
from pushd.commands.text import check_text
from pushd.content.check import validate_time
from pushd.content.in_app import Document, documents
from pushd.content.liquid import TemplateError
from pushd.content.merge import merge
from pushd.content.personal import needs, rendered
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.app import App
from pushd.model.audience import Audience, Broadcast
from pushd.model.device import ID_MAX
from pushd.model.in_app import InAppContent, InAppPush, InAppVariant, InboxEntry, PresentedWhen, faults_of_ttl
from pushd.model.notification import Send
from pushd.model.scheduled import ScheduleChange
from pushd.model.template import TemplateKind, TemplateRef
from pushd.scheduler.due import recurs
from pushd.scheduler.in_app import body_of, push_to
from pushd.store.accepts import Due
from pushd.store.schedules import Scheduled

Said = TypeVar("Said", bound=InAppContent)
_encode = msgspec.json.Encoder().encode
_OF_ALL = frozenset({"name", "audience", "schedule", "intelligent_delivery", "release_window_minutes"})
_OF_CHANGES = frozenset({"active", "revision", "in_app"})


async def with_content(context: Context, app_id: int, wanted: Said) -> Said:
    """The in-app message with its template's content, its own merged over that, and rendered where all read the same.

    What reads the user or the device, and what differs by locale, is kept as it was written. NotFoundError;
    InvalidRequestError names every tag that is missing.
    """
    if wanted.template is None:
        if not wanted.content:
            raise InvalidRequestError("The message has no content", faults=[Fault("/content", "is required")])
        own, said = wanted.content, wanted
    else:
        own, said = {}, await _with_template(context, app_id, wanted, wanted.template)
    whole = documents(_document(said), said.locales)
    if not said.liquid:
        return said
    needed = united([needs(each, f"/locales/{locale}" if locale else "") for locale, each in whole.items()])
    refuse_missing(needed, Send(audience=Broadcast(), content_tags=said.content_tags))
    if needed.user_data:
        fault = Fault(
            "/template" if said.template else "/content", "reads user_data, which in-app messages do not have"
        )
        raise InvalidRequestError("The message reads what is not there", faults=[fault])
    if needed.user or needed.device or said.locales:
        return said if own else msgspec.structs.replace(said, content=merge(said.content, wanted.content))
    try:
        made = rendered(whole[""], said.content_tags, context.clock.now())
        inbox = msgspec.convert(made["inbox"], InboxEntry | None)
    except (TemplateError, msgspec.ValidationError) as error:
        fault = Fault("/content_tags", str(error))
        raise InvalidRequestError("The content cannot be rendered", faults=[fault]) from None
    content = made["content"] if own else merge(made["content"], wanted.content)
    return msgspec.structs.replace(said, content=content, data=made["data"], inbox=inbox, liquid=False)


async def _with_template(context: Context, app_id: int, wanted: Said, ref: TemplateRef) -> Said:
    """The message with its template's content and variants in the place of its own content."""
    stored = await context.store.templates.get(app_id, ref.uid, ref.version)
    if stored is None:
        raise NotFoundError("There is no such template, or it has no such version")
    body = stored.body
    if body.kind is not TemplateKind.IN_APP or body.content is None:
        raise InvalidRequestError(
            "The template makes no in-app messages", faults=[Fault("/template", "is a template of notifications")]
        )
    locales = {name: InAppVariant(content=patch) for name, patch in as_liquid(body.locales, body.syntax).items()}
    return msgspec.structs.replace(
        wanted,
        template=TemplateRef(uid=stored.uid, version=stored.version),
        content=as_liquid(body.content, body.syntax),
        locales={**locales, **wanted.locales},
        liquid=True,
    )


def _document(said: InAppContent) -> Document:
    return {"content": said.content, "data": said.data, "inbox": msgspec.to_builtins(said.inbox)}


async def changed_content(context: Context, app: App, stored: Scheduled, send: Send, change: ScheduleChange) -> bytes:
    """What messages of a schedule say after a change, as JSON; `send` says to whom and when. InvalidRequestError."""
    if stored.in_app is None:
        raise InvalidRequestError(faults=[Fault("/in_app", "is of schedules of in-app messages")])
    given = [name for name in change.__struct_fields__ if getattr(change, name) is not UNSET]
    faults = [
        Fault(f"/{name}", "is of notifications: what in-app messages say is `in_app`")
        for name in given
        if name not in _OF_ALL | _OF_CHANGES
    ]
    if faults:
        raise InvalidRequestError("The schedule is of in-app messages", faults=faults)
    validate_time(send)
    said = msgspec.json.decode(stored.in_app, type=InAppContent)
    if change.in_app is not UNSET:
        said = await with_content(context, app.id, change.in_app)
    at = stored.next_at or context.clock.now()
    try:
        return examined_later(context, app, send, said, Due(at, at))
    except InvalidRequestError as error:
        faults = [Fault(f"/in_app{fault.pointer}", fault.detail) for fault in error.faults]
        raise InvalidRequestError(error.detail, faults=faults) from None


def examined(context: Context, app: App, audience: Audience, said: InAppContent, at: float) -> bytes:
    """What recipients are given from an instant on, as JSON, when all but the audience is in order.

    InvalidRequestError.
    """
    check_text(said)
    faults = []
    if said.ttl is not None and (wrong := faults_of_ttl(said.ttl)):
        faults.append(Fault("/ttl", wrong))
    presented = said.presented_when is not PresentedWhen.NEVER
    if presented and said.ttl is None:
        faults.append(Fault("/ttl", "is required of a message that is presented"))
    if not presented and said.inbox is None:
        faults.append(Fault("/inbox", "is required of a message that is never presented"))
    inbox = said.inbox
    if inbox is not None and inbox.available_to is not None:
        if inbox.available_to <= (inbox.available_from or 0):
            faults.append(Fault("/inbox/available_to", "is not after `available_from`"))
        elif inbox.available_to <= at:
            faults.append(Fault("/inbox/available_to", "is over when the message is released"))
    if faults:
        raise InvalidRequestError("The message is not valid", faults=faults)
    body = body_of(said)
    if len(body) > context.config.inbox.message_bytes_max:
        bound = f"{context.config.inbox.message_bytes_max:,} bytes"
        raise InvalidRequestError(faults=[Fault("/content", f"is too long: with data and inbox {bound}")])
    if said.push is not None:
        _examine_push(context, app, audience, said.push)
    return body


def examined_later(context: Context, app: App, send: Send, said: InAppContent, due: Due) -> bytes:
    """All that a message says whose time is to come, as JSON, when it is in order; InvalidRequestError."""
    again = recurs(send)
    check_text({"name": send.name})
    inbox = said.inbox
    if again and inbox is not None:
        names = [name for name in ("available_from", "available_to") if getattr(inbox, name) is not None]
        if names:
            detail = "is one instant, and it recurs: each stays from its release on"
            raise InvalidRequestError(faults=[Fault(f"/inbox/{name}", detail) for name in names])
    examined(context, app, send.audience, said, due.at)
    return _encode(said)


def _examine_push(context: Context, app: App, audience: Audience, push: InAppPush) -> None:
    send = push.send(push_to(audience), ID_MAX)
    try:
        if send.badge_from is not None:
            check_badge(send)
        examine(context, app, send)
    except InvalidRequestError as error:
        faults = [Fault(f"/push{fault.pointer}", fault.detail) for fault in error.faults]
        raise InvalidRequestError(error.detail, faults=faults) from None
    context.index.check(app.id, send.audience)
