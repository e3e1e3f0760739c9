"""Personal sends made ready: the template fetched, what it needs asked for by name, what is alike for all rendered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

import msgspec

from pushd.badges import COUNT_MAX, COUNTED
from pushd.commands.context import Context
from pushd.content.check import validate
from pushd.content.liquid import TemplateError, parse
from pushd.content.merge import merge
from pushd.content.personal import (
    DEVICE,
    RESERVED,
    USER,
    USER_DATA,
    Needs,
    Script,
    is_personal,
    needs,
    rendered,
    variants,
    with_badge,
)
from pushd.content.smart_text import to_liquid
from pushd.content.texts import Place, replaced
from pushd.errors import Fault, InvalidRequestError, NotFoundError, PushdError
from pushd.model.app import App
from pushd.model.audience import UserIds
from pushd.model.message import Message, PushType
from pushd.model.notification import Send
from pushd.model.template import Syntax, TemplateKind, TemplateRef
from pushd.store.templates import StoredTemplate

Known = dict[TemplateRef, StoredTemplate]
"""Templates that were read for the same request before."""
TURN_S = 0.005
"""How long sends of an array are prepared before others get their turn."""
SAMPLE = "x"
SAMPLE_LINK = "https://x.example/"


async def prepare(context: Context, app_id: int, wanted: Send, known: Known | None = None) -> Send:
    """The send as it is kept: with its template's message, and rendered already where it is the same for all devices.

    So nothing but the send itself is needed to go on with it after a crash, whatever became of the template meanwhile.
    NotFoundError for a template that is not there; InvalidRequestError names every tag that is missing.
    """
    if wanted.template is not None:
        wanted = _with_template(wanted, await _template(context, app_id, wanted.template, known))
    if not is_personal(wanted):
        return wanted
    needed = Needs()
    if wanted.liquid:
        each = [*variants(wanted.message, wanted.locales).items()]
        needed = united([needs(wanted.message, "/message"), *(needs(one, f"/locales/{name}") for name, one in each)])
        refuse_missing(needed, wanted)
        if not (
            wanted.locales
            or wanted.badge_from
            or needed.user
            or needed.device
            or needed.user_data
            or _overridden(needed, wanted)
        ):
            return _rendered(context, wanted)
    else:
        variants(wanted.message, wanted.locales)
    if wanted.badge_from is not None:
        check_badge(wanted)
    if wanted.badge_from == COUNTED:
        await context.store.badges.ready(app_id)
    if wanted.locales and (app := await context.store.apps.get(app_id)) is not None:
        await check_samples(context, app, wanted)
    return wanted


async def prepared(
    context: Context, app_id: int, wanted: Sequence[Send | PushdError], known: Known
) -> Sequence[Send | PushdError]:
    """Sends of an array as `prepare` makes them, an error in the place of each that cannot be; errors stay."""
    if not any(isinstance(each, Send) and (each.template is not None or is_personal(each)) for each in wanted):
        return wanted
    made: list[Send | PushdError] = []
    turn = monotonic()
    for each in wanted:
        if monotonic() - turn > TURN_S:
            await asyncio.sleep(0)
            turn = monotonic()
        if isinstance(each, Send):
            try:
                made.append(await prepare(context, app_id, each, known))
            except PushdError as error:
                made.append(error)
        else:
            made.append(each)
    return made


def refuse_missing(needed: Needs, wanted: Send) -> None:
    """Returns when all tags are there: for all, or for each of the users that the send names; InvalidRequestError."""
    faults = [
        Fault(f"/content_tags/{_escaped(name)}", "is a name that templates have for something else")
        for name in sorted(RESERVED & wanted.content_tags.keys())
    ]
    missing = {*needed.required} - wanted.content_tags.keys()
    if missing and type(wanted.audience) is UserIds and wanted.audience.ids:
        own = [wanted.user_data.get(name, {}).keys() for name in wanted.audience.ids]
        missing = {name for name in missing if not all(name in keys for keys in own)}
    faults += [Fault(f"/content_tags/{_escaped(name)}", "is needed by the template") for name in sorted(missing)]
    if faults:
        raise InvalidRequestError("The content tags do not fit the template", faults=faults)


async def check_samples(context: Context, app: App, send: Send) -> None:
    """Returns when a message and its variants could be sent, as far as that shows before their gaps are filled.

    InvalidRequestError. A variant takes half a millisecond: others get their turn between.
    """
    turn, shapes = monotonic(), context.index.shapes(app.id)
    for each in samples(send):
        validate(each, app.settings, context.keyring.gateways(app.id), shapes=shapes)
        if monotonic() - turn > TURN_S:
            await asyncio.sleep(0)
            turn = monotonic()


def samples(send: Send) -> Iterator[Send]:
    """Sends that stand for a personal one where it is checked: its variants, with as little as possible in their gaps.

    What is too large or wrong in all of them is so for every device.
    """
    if not is_personal(send):
        yield send
        return
    script = Script(send)
    for message in script.messages:
        values = script.values({}, {}, None)
        made = replaced(message, partial(_sample, values)) if send.liquid else message
        made = with_badge(made, COUNT_MAX) if script.is_counted else made
        yield msgspec.structs.replace(
            send, message=made, liquid=False, locales={}, content_tags={}, user_data={}, user_meta={}, badge_from=None
        )


def united(parts: list[Needs]) -> Needs:
    """What all of them read together."""
    required = frozenset().union(*(part.required for part in parts))
    return Needs(
        user=frozenset().union(*(part.user for part in parts)),
        device=frozenset().union(*(part.device for part in parts)),
        user_data=any(part.user_data for part in parts),
        required=required,
        optional=frozenset().union(*(part.optional for part in parts)) - required,
    )


def as_liquid(value: Any, syntax: Syntax) -> Any:
    """A message or content as its author wrote it, as Liquid."""
    if syntax is Syntax.LIQUID:
        return value
    return replaced(value, lambda _, text: to_liquid(text), wanted=lambda text: "{" in text)


def _with_template(wanted: Send, template: StoredTemplate) -> Send:
    body = template.body
    if body.kind is not TemplateKind.NOTIFICATION or body.message is None:
        fault = Fault("/template/uid", "is a template of in-app messages")
        raise InvalidRequestError("The template makes no notifications", faults=[fault])
    message, locales = as_liquid(body.message, body.syntax), as_liquid(body.locales, body.syntax)
    own = msgspec.to_builtins(wanted.message)
    if own:
        try:
            message = msgspec.convert(merge(msgspec.to_builtins(message), own), Message)
        except msgspec.ValidationError as error:
            fault = Fault("/message", str(error))
            raise InvalidRequestError("The message does not fit the template", faults=[fault]) from None
    return msgspec.structs.replace(
        wanted,
        template=TemplateRef(uid=template.uid, version=template.version),
        message=message,
        locales={**locales, **wanted.locales},
        liquid=True,
        ttl_s=body.ttl_s if wanted.ttl_s is None else wanted.ttl_s,
    )


async def _template(context: Context, app_id: int, ref: TemplateRef, known: Known | None) -> StoredTemplate:
    if known is not None and ref in known:
        return known[ref]
    found = await context.store.templates.get(app_id, ref.uid, ref.version)
    if found is None:
        raise NotFoundError("There is no such template, or it has no such version")
    if known is not None:
        known[ref] = found
    return found


def _rendered(context: Context, wanted: Send) -> Send:
    try:
        message = rendered(wanted.message, wanted.content_tags, context.clock.now())
    except TemplateError as error:
        fault = Fault("/message", str(error))
        raise InvalidRequestError("The message cannot be rendered", faults=[fault]) from None
    return msgspec.structs.replace(wanted, message=message, liquid=False)


def check_badge(wanted: Send) -> None:
    """Returns when the badge is read from where there can be one; InvalidRequestError."""
    if wanted.message.push_type is not PushType.ALERT:
        fault = Fault("/badge_from", f"has no meaning in a push of type {wanted.message.push_type.value}")
        raise InvalidRequestError("The push has no badge", faults=[fault])
    if wanted.badge_from == COUNTED:
        _check_counted(wanted)
        return
    root, _, rest = (wanted.badge_from or "").partition(".")
    if root == DEVICE or (root in (USER, USER_DATA) and not rest):
        fault = Fault("/badge_from", f"names a user's attribute (user.unread), a tag, or {COUNTED}")
        raise InvalidRequestError("There are no badges there", faults=[fault])


def _check_counted(wanted: Send) -> None:
    """Returns when a message can be counted: by as much for everybody. InvalidRequestError."""
    faults = [
        Fault(f"/locales/{name}/{field}", "is counted, alike for all")
        for name, patch in wanted.locales.items()
        for field in ("badge", "badge_increment")
        if field in patch
    ]
    if wanted.message.badge is not None:
        faults.append(Fault("/message/badge", "is counted: not together with badge_from"))
    if abs(wanted.message.badge_increment or 0) > COUNT_MAX:
        faults.append(Fault("/message/badge_increment", f"counts go up to {COUNT_MAX}"))
    if faults:
        raise InvalidRequestError("The badge cannot be counted so", faults=faults)


def _overridden(needed: Needs, wanted: Send) -> bool:
    """Whether some user has a tag of his own."""
    return any(needed.tags & own.keys() for own in wanted.user_data.values())


def _sample(values: Mapping[str, Any], place: Place, text: str) -> str:
    if place.is_link and text.lstrip().startswith("{"):
        return SAMPLE_LINK
    try:
        return parse(text).render(values, 0.0) or SAMPLE
    except TemplateError:  # of nobody; it may well render for those whom it is for
        return SAMPLE


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
