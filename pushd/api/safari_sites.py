"""Websites for Safari 15 and older over HTTP: /safari/sites, and what Safari complained of: /safari/log."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands import safari_sites
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.safari import Said, Site, SiteBody, WebsitePushId
from pushd.web.caller import Caller


class OneSite(Struct, frozen=True):
    """A site in the path."""

    website_push_id: WebsitePushId


class Sites(Struct, frozen=True):
    """The sites of an app."""

    items: list[Site]


class Lines(Struct, frozen=True):
    """What Safari sent to an app's log, oldest first, as far as this daemon has kept it since its start."""

    items: list[Said]


async def put(context: Context, caller: Caller, request: Request[SiteBody, OneSite]) -> Site:
    """PUT /safari/sites/{website_push_id}."""
    return await safari_sites.put(context, caller.app, request.params.website_push_id, request.body)


async def show(context: Context, caller: Caller, request: Request[None, OneSite]) -> Site:
    """GET /safari/sites/{website_push_id}."""
    return await safari_sites.get(context, caller.app, request.params.website_push_id)


async def listing(context: Context, caller: Caller, _: Request[None, None]) -> Sites:
    """GET /safari/sites."""
    return Sites(items=await safari_sites.listing(context, caller.app))


async def delete(context: Context, caller: Caller, request: Request[None, OneSite]) -> None:
    """DELETE /safari/sites/{website_push_id}."""
    await safari_sites.delete(context, caller.app, request.params.website_push_id)


async def lines(context: Context, caller: Caller, _: Request[None, None]) -> Lines:
    """GET /safari/log."""
    return Lines(items=context.safari_log.lines(caller.app))


_EXAMPLE = {
    "website_name": "Orchard",
    "allowed_domains": ["https://orchard.example"],
    "url_format": "https://orchard.example/%@",
    "web_service_url": "https://push.orchard.example/pushd/safari/1",
}

OPERATIONS = (
    Operation(
        name="putSafariSite",
        method="PUT",
        path="/safari/sites/{website_push_id}",
        tag="safari",
        summary="Makes or changes a website whose visitors subscribe with Safari 15 and older",
        description="The certificate of the website push id has to be there already; it keeps the site's "
        "urlFormatString. Six icons are needed at first, and may be left out later. Safari is served under "
        "`/pushd/safari/{app}`, see the page about Safari.",
        handler=put,
        params=OneSite,
        body=SiteBody,
        answer=Site,
        errors=(ConflictError,),
        example=_EXAMPLE,
    ),
    Operation(
        name="getSafariSite",
        method="GET",
        path="/safari/sites/{website_push_id}",
        tag="safari",
        summary="One website",
        handler=show,
        params=OneSite,
        answer=Site,
    ),
    Operation(
        name="listSafariSites",
        method="GET",
        path="/safari/sites",
        tag="safari",
        summary="The app's websites",
        handler=listing,
        answer=Sites,
    ),
    Operation(
        name="deleteSafariSite",
        method="DELETE",
        path="/safari/sites/{website_push_id}",
        tag="safari",
        summary="Ends a website's push packages",
        description="Its devices stay registered, and its certificate stays.",
        handler=delete,
        params=OneSite,
        statuses=(204,),
    ),
    Operation(
        name="readSafariLog",
        method="GET",
        path="/safari/log",
        tag="safari",
        summary="What Safari complained of",
        description="Safari says nothing to its user when a package is not to its taste; it writes here.",
        handler=lines,
        answer=Lines,
    ),
)
