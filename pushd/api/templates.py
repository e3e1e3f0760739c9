"""Templates over HTTP: /templates, their versions and previews, and sends to whom a template is for."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import previews, templates
from pushd.commands.context import Context
from pushd.commands.notifications import Sent
from pushd.commands.previews import Preview, PreviewAsk
from pushd.commands.templates import TemplateSend
from pushd.errors import ConflictError, IdempotencyMismatchError, UnknownTargetsError
from pushd.model.device import ID_MAX, Text255
from pushd.model.template import NewTemplate, Template, TemplateChange, Version
from pushd.web.caller import Caller

_NEWEST = ID_MAX + 1


class OneTemplate(Struct, frozen=True):
    """A template in the path."""

    uid: Text255


class AtVersion(OneTemplate, frozen=True, kw_only=True):
    """A template at one of its versions."""

    version: Annotated[Version, Meta(description="Absent: the newest.")] | None = None


class TemplatesPage(Page, frozen=True):
    """Which templates to list."""

    name: Annotated[Text255, Meta(description="The one that has this name.")] | None = None


class VersionsPage(Page, frozen=True, kw_only=True):
    """Versions of a template."""

    uid: Text255


async def create(context: Context, caller: Caller, request: Request[NewTemplate, None]) -> Template:
    """POST /templates."""
    return await templates.create(context, caller.app, request.body)


async def listing(context: Context, caller: Caller, request: Request[None, TemplatesPage]) -> Listing[Template]:
    """GET /templates."""
    found = await templates.list_page(
        context, caller.app, after=request.after(), limit=request.limit, name=request.params.name
    )
    return request.listing(found, [template.id for template in found])


async def show(context: Context, caller: Caller, request: Request[None, AtVersion]) -> Template:
    """GET /templates/{uid}."""
    return await templates.get(context, caller.app, request.params.uid, request.params.version)


async def versions(context: Context, caller: Caller, request: Request[None, VersionsPage]) -> Listing[Template]:
    """GET /templates/{uid}/versions."""
    uid = request.params.uid
    found = await templates.versions(context, caller.app, uid, before=request.after(_NEWEST), limit=request.limit)
    return request.listing(found, [template.version for template in found])


async def update(context: Context, caller: Caller, request: Request[TemplateChange, OneTemplate]) -> Template:
    """PATCH /templates/{uid}."""
    return await templates.update(context, caller.app, request.params.uid, request.body)


async def delete(context: Context, caller: Caller, request: Request[None, OneTemplate]) -> None:
    """DELETE /templates/{uid}."""
    await templates.delete(context, caller.app, request.params.uid)


async def preview(context: Context, caller: Caller, request: Request[PreviewAsk, OneTemplate]) -> Preview:
    """POST /templates/{uid}/preview."""
    return await previews.preview(context, caller.app, request.params.uid, request.body)


async def send(context: Context, caller: Caller, request: Request[TemplateSend, OneTemplate]) -> Reply[bytes]:
    """POST /templates/{uid}/send."""
    uid = request.params.uid
    answer = await templates.send(context, caller.app, uid, request.body, request.idempotency())
    return Reply(answer.body, headers={"Idempotency-Replayed": "true"} if answer.replayed else {})


OPERATIONS = (
    Operation(
        name="createTemplate",
        method="POST",
        path="/templates",
        tag="templates",
        summary="Stores a message, or the content of in-app messages, with gaps",
        description="Its texts are Liquid, or smart text. `required_tags` of the answer are what a send has to bring.",
        handler=create,
        body=NewTemplate,
        answer=Template,
        statuses=(201,),
        errors=(ConflictError,),
        example={
            "name": "Delivery",
            "uid": "delivery",
            "message": {"title": "On its way", "body": 'Hello {{ user.first_name | default: "you" }}, {{ item }} left'},
            "locales": {"de": {"title": "Unterwegs", "body": "{{ item }} ist unterwegs"}},
        },
    ),
    Operation(
        name="listTemplates",
        method="GET",
        path="/templates",
        tag="templates",
        summary="Templates, oldest first, each at its newest version",
        handler=listing,
        params=TemplatesPage,
        answer=Listing[Template],
    ),
    Operation(
        name="getTemplate",
        method="GET",
        path="/templates/{uid}",
        tag="templates",
        summary="One template",
        handler=show,
        params=AtVersion,
        answer=Template,
    ),
    Operation(
        name="listTemplateVersions",
        method="GET",
        path="/templates/{uid}/versions",
        tag="templates",
        summary="The versions of a template, newest first",
        handler=versions,
        params=VersionsPage,
        answer=Listing[Template],
    ),
    Operation(
        name="updateTemplate",
        method="PATCH",
        path="/templates/{uid}",
        tag="templates",
        summary="Changes a template, which makes a new version of it",
        description="What was sent or scheduled by an earlier version stays as it is.",
        handler=update,
        params=OneTemplate,
        body=TemplateChange,
        answer=Template,
        errors=(ConflictError,),
        example={"message": {"title": "On its way", "body": "{{ item }} left us today"}},
    ),
    Operation(
        name="deleteTemplate",
        method="DELETE",
        path="/templates/{uid}",
        tag="templates",
        summary="Forgets a template with its versions",
        description="What was sent or scheduled by it stays as it is.",
        handler=delete,
        params=OneTemplate,
        statuses=(204,),
    ),
    Operation(
        name="previewTemplate",
        method="POST",
        path="/templates/{uid}/preview",
        tag="templates",
        summary="What a user would get of a template, on every platform",
        handler=preview,
        params=OneTemplate,
        body=PreviewAsk,
        answer=Preview,
        example={"user": "ada", "content_tags": {"item": "Your book"}},
    ),
    Operation(
        name="sendTemplate",
        method="POST",
        path="/templates/{uid}/send",
        tag="templates",
        summary="Sends a template to whom it is for",
        description="Answered as a send is. `POST /notifications` takes a template too, with all that a send may say.",
        handler=send,
        params=OneTemplate,
        body=TemplateSend,
        answer=Sent,
        statuses=(202,),
        errors=(UnknownTargetsError, IdempotencyMismatchError),
        idempotent=True,
        example={"content_tags": {"item": "Your book"}},
    ),
)
