"""The devices of the demo: phones and browsers, what goes wrong with some, and the app's credentials."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from pushd.cli.client import Client

BUNDLE = "com.example.orchard"
TAG = "pears"
KINDS = (
    *("apns", "fcm", "apns", "webpush", "apns", "fcm", "apns", "apns", "safari", "webpush"),
    *("apns", "fcm", "apns", "hms", "apns", "webpush", "apns", "fcm", "email", "apns"),
)
"""What every twenty devices in a row are: each user has two of them."""
PLATFORMS = {
    "apns": "ios",
    "fcm": "android",
    "webpush": "web",
    "hms": "huawei",
    "safari": "macos",
    "email": "email",
}
MAIL_KIND = "email"
"""What only a message of its own reaches: no alert is ever mailed."""
WEBSITE_PREFIX = "web."
"""What topics of websites begin with, which arrive at Apple like those of apps."""
DEAD, BUSY = "dead", "b0"
"""Tokens that begin so are dead, or (of Apple's, about 0.4 %) answered 503 at their first push."""
DEAD_PLACES = (7, 25)
"""Which of every forty devices are dead: an iPhone and an Android."""
CHUNK = 2_000


class Vendors:
    """The local vendors, by their control interface."""

    def __init__(self, session: aiohttp.ClientSession, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self._session = session
        self._url = f"http://127.0.0.1:{manifest['control_port']}"

    async def ask(self, path: str, body: Any = None) -> Any:
        """The answer to a question, or to what is posted."""
        method = "GET" if body is None else "POST"
        async with self._session.request(method, self._url + path, json=body, raise_for_status=True) as answer:
            return await answer.json()

    async def script(self) -> None:
        """Sets what goes wrong: tokens that are dead, and some that Apple takes only at the second try."""
        gone = {"type": "answer", "status": 410, "reason": "Unregistered"}
        busy = {"type": "answer", "status": 503, "reason": "ServiceUnavailable"}
        await self.ask("/faults", {"token_prefix": DEAD, "action": gone})
        await self.ask("/faults", {"token_prefix": BUSY, "per_token": 1, "action": busy})
        unknown = {"type": "answer", "reason": "UNREGISTERED"}
        await self.ask("/vendors/fcm/faults", {"token_prefix": DEAD, "action": unknown})

    async def accepted(self) -> dict[str, int]:
        """Pushes that each vendor took."""
        apple, others = await self.ask("/summary"), await self.ask("/vendors")
        topics = apple["accepted_topics"].items()
        websites = sum(count for topic, count in topics if topic.startswith(WEBSITE_PREFIX))
        counts = {"apns": apple["accepted"] - websites, "safari": websites}
        return counts | {name: told["accepted"] for name, told in others.items()}

    async def violations(self) -> list[str]:
        """What a correct client would not have done."""
        apple, others = await self.ask("/summary"), await self.ask("/vendors")
        kinds = {"apns": apple["violations"]} | {name: counts["violations"] for name, counts in others.items()}
        return [f"{name}: {kind}" for name, found in kinds.items() for kind, count in found.items() if count]


async def add_credentials(owner: Client, manifest: dict[str, Any]) -> str:
    """Uploads a credential for every vendor; the VAPID key that browsers subscribe with, in base64url."""
    provider, others = manifest["keys"][0], manifest["others"]
    website = others["safari"]
    account = orjson.loads(Path(others["fcm"]["key_file"]).read_bytes())
    account.pop("type")
    secrets: list[dict[str, Any]] = [
        {
            "type": "apns_token",
            "team_id": provider["team_id"],
            "key_id": provider["key_id"],
            "private_key": Path(manifest["key_files"][provider["key_id"]]).read_text(),
        },
        {"type": "service_account", **account},
        {
            "type": "hms_client",
            "client_id": others["hms"]["client_id"],
            "client_secret": others["hms"]["client_secret"],
        },
        {
            "type": "safari_certificate",
            "p12": base64.b64encode(Path(website["p12_file"]).read_bytes()).decode(),
            "password": website["password"],
            "url_format": website["url_format"],
        },
        {"type": "email_sender", "from_address": "orchard@example.com", "from_name": "Orchard"},
        {"type": "vapid", "subject": "mailto:demo@example.com"},
    ]
    for secret in secrets:
        body = {"secret": secret, "environment": "production", "name": "demo"}
        made = await owner.call("POST", "/credentials", body)
    public_key: str = made["summary"]["public_key"]
    return public_key


async def registrations(count: int, vendors: Vendors, public_key: str) -> AsyncIterator[bytes]:
    """So many devices as NDJSON, chunk by chunk."""
    source = random.Random(2026)  # noqa: S311  # made-up tokens, the same at every run
    for start in range(0, count, CHUNK):
        numbers = range(start, min(count, start + CHUNK))
        browsers = sum(kind_of(number) == "webpush" for number in numbers)
        wanted = {"count": browsers, "key": public_key}
        subscriptions = await vendors.ask("/vendors/webpush/subscriptions", wanted) if browsers else []
        website = vendors.manifest["others"]["safari"]["website_push_id"]
        yield b"".join(_line(number, source, subscriptions, website) for number in numbers)


def kind_of(number: int) -> str:
    """The kind of a device by its number."""
    return KINDS[number % len(KINDS)]


def mailboxes(count: int) -> int:
    """How many of so many devices only mails reach."""
    return sum(kind_of(number) == MAIL_KIND for number in range(count))


def dead(count: int) -> int:
    """How many of so many devices are dead."""
    return sum(number % 40 in DEAD_PLACES for number in range(count))


def _line(number: int, source: random.Random, subscriptions: list[dict[str, Any]], website: str) -> bytes:
    kind = kind_of(number)
    body: dict[str, Any] = {
        "install_id": f"install-{number}",
        "user_id": f"user-{number // 2}",
        "kind": kind,
        "platform": PLATFORMS[kind],
    }
    if kind == "webpush":
        body["subscription"] = subscriptions.pop()
    elif kind == MAIL_KIND:
        body["token"] = f"user-{number // 2}.{number}@example.org"
    elif kind == "safari":
        body |= {"bundle": website, "token": source.randbytes(32).hex()}
    else:
        body |= {"bundle": BUNDLE, "token": _token(number, kind, source)}
    if number % 5 == 0:
        body["tags"] = [TAG]
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


def _token(number: int, kind: str, source: random.Random) -> str:
    digits = source.randbytes(32).hex()
    if number == 0:
        return "0" * len(digits)
    mark = DEAD if number % 40 in DEAD_PLACES else ""
    if kind == "fcm":
        return f"{mark or digits[:4]}{digits[4:22]}:APA91b{digits}"
    return mark + digits[len(mark) :]
