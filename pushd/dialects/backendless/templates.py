"""Backendless' push templates: what devices keep of them, and pushes that they make."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from pushd.commands import templates
from pushd.content.shapes.backendless import ANDROID, IOS
from pushd.content.smart_text import filled, literal
from pushd.dialect import Dialect
from pushd.dialects.backendless import messages, wire
from pushd.errors import NotFoundError
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.template import Syntax, Tags, Template, TemplateKind, TemplateRef
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

TEMPLATES_MAX = 1_000
_HEADERS = {"android": ANDROID, "ios": IOS}
"""By system, where a device looks for a whole template."""


async def show(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET messaging/pushtemplates/{system}: what devices keep, by name; Apple's where no system is named."""
    who = await wire.who(dialect, incoming)
    named = wire.values(incoming)
    system = named[0].strip().lower() if named else "ios"
    found = await templates.list_page(dialect.context, who.app_id, after=0, limit=TEMPLATES_MAX)
    return wire.told({each.name: of_device(each, system, {}) for each in found if system in each.device_templates})


async def send(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST messaging/push/{name}: to whom the template is for."""
    who = await wire.who(dialect, incoming)
    tags = tags_of((await wire.body(dialect, incoming)).get("templateValues"))
    (name,) = wire.values(incoming)
    found = await templates.list_page(dialect.context, who.app_id, after=0, limit=1, name=name)
    if not found or found[0].kind is not TemplateKind.NOTIFICATION:
        raise NotFoundError(f"Push Template with name '{name}' doesn't exist")
    template = found[0]
    if template.audience is None:
        raise wire.wrong("template", "is for nobody by itself: give it an audience")
    await messages.admit(dialect, who, None)
    wanted = Send(
        audience=template.audience,
        template=TemplateRef(uid=template.uid, version=template.version),
        message=message_of(template, tags),
        content_tags=tags,
    )
    return await messages.sent(dialect, who, wanted)


def tags_of(given: Any) -> Tags:
    """The values of a body; InvalidRequestError."""
    try:
        return msgspec.convert({} if given is None else given, Tags)
    except msgspec.ValidationError:
        raise wire.wrong("templateValues", "are not an object with names of 1 to 100 characters") from None


def message_of(template: Template, tags: Tags) -> Message:
    """What stands over a template's message: the whole template, for devices that do not have it, or an older one."""
    data = {
        header: literal(orjson.dumps(of_device(template, system, tags)).decode())
        for system, header in _HEADERS.items()
        if system in template.device_templates
    }
    return Message(data=data) if data else Message()


def of_device(template: Template, system: str, tags: Tags) -> dict[str, Any]:
    """A template as devices of a system keep it, with these values in its gaps; what is a user's own stays open."""
    values = {name: wire.text(value) for name, value in tags.items()} if template.syntax is Syntax.SMART_TEXT else {}
    made: dict[str, Any] = _filled(template.device_templates[system], values)
    return made | {"name": template.name}


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, str):
        return filled(value, values) if values else value
    if isinstance(value, dict):
        return {name: _filled(each, values) for name, each in value.items()}
    return [_filled(each, values) for each in value] if isinstance(value, list) else value
