"""The Safari gateway: website pushes for Safari 15 and older, over APNs with a website push certificate (S-01, S-02).

Safari drops a push without a word where `url-args` are not as many as the placeholders of the site's urlFormatString
(S-03). So they are made here, where the format is known, of the message's link; a link that the format cannot say is
refused aloud.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from msgspec.structs import replace

from protocols import safari
from pushd.batch import Batch, Rendered
from pushd.content.safari import LINK
from pushd.gateways.apns import ApnsGateway
from pushd.gateways.apns_exchange import URL_ARGS_UNFIT
from pushd.model.credential import SafariCertificate
from pushd.model.device import GatewayName
from pushd.outcome import NOT_WRITTEN

AT_ONCE = 200
"""Messages that are completed at a stretch, some 4 ms: then others have the event loop."""
PROBE = Rendered(
    payload=b'{"aps":{"alert":{"title":"pushd","body":"pushd"},"url-args":[]}}',
    headers=(("apns-push-type", "alert"), ("apns-priority", "10")),
)


class SafariGateway(ApnsGateway):
    """Sends batches to Apple for websites."""

    name = GatewayName.SAFARI
    certificates = SafariCertificate
    probe = PROBE

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        secret = self._secrets.secret(batch.credential_id)
        if isinstance(secret, SafariCertificate):
            try:
                await self._complete(batch, secret)
            except asyncio.CancelledError:  # recalled: nothing of it is on its way yet
                batch.settle_pending(NOT_WRITTEN.code)
                raise
        await super().send(batch)

    async def _complete(self, batch: Batch, secret: SafariCertificate) -> None:
        """Gives every message of the batch the url-args of its link, in slices; rows that can have none end here."""
        if isinstance(batch.payloads, Rendered):
            completed = complete(batch.payloads, secret.url_format or "")
            if completed is None:
                batch.settle_pending(URL_ARGS_UNFIT.code)
            else:
                batch.payloads = completed
            return
        made: dict[int, Rendered | None] = {}
        payloads = []
        for row, rendered in enumerate(batch.payloads):
            if id(rendered) not in made:
                made[id(rendered)] = complete(rendered, secret.url_format or "")
                if len(made) % AT_ONCE == 0:
                    await asyncio.sleep(0)
            whole = made[id(rendered)]
            if whole is None and not batch.outcomes[row]:
                batch.outcomes[row] = URL_ARGS_UNFIT.code
            payloads.append(whole or rendered)
        batch.payloads = payloads


def complete(rendered: Rendered, url_format: str) -> Rendered | None:
    """The message with as many url-args as the format has placeholders; None where its link does not fit the format.

    Of a site whose format is not known, url-args that the message itself brings are taken at their word.
    """
    headers = dict(rendered.headers)
    link = headers.pop(LINK, None)
    body: Any = orjson.loads(rendered.payload)
    aps = body.get("aps") if isinstance(body, dict) else None
    if not isinstance(aps, dict):
        return None
    arguments = aps.get("url-args")
    if not arguments:
        arguments = safari.open_nothing(url_format) if link is None else safari.url_args(link, url_format)
    if not (safari.fit(arguments, url_format) if url_format else safari.are_args(arguments)):
        return None
    aps["url-args"] = arguments
    return replace(rendered, payload=orjson.dumps(body), headers=tuple(headers.items()))
