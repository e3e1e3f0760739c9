"""Appenate: `POST /api/v2/push`, in JSON or XML, to one user named by id, e-mail or external id."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring, iterparse

from pushd.bitset import Devices
from pushd.commands import notifications
from pushd.commands.audience import resolve
from pushd.content.kinds import kinds
from pushd.dialect import Call, Dialect
from pushd.errors import Fault, InvalidRequestError, PushdError, UnsupportedMediaTypeError
from pushd.model.audience import Audience, UserEmails, UserIds, UserNumbers
from pushd.model.device import ID_MAX
from pushd.model.message import TTL_MAX_S, Message, PushType
from pushd.model.notification import Send
from pushd.model.vendor_key import DialectName
from pushd.web import problem
from pushd.web.answer import JSON, Answer
from pushd.web.incoming import Incoming

PATHS = frozenset(("/api/v2/push", "/api/v2/push/"))
XML = "application/xml"
BODY_BYTES_MAX = 64 * 1024
SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"
_TYPES = frozenset((JSON, "text/json", XML, "text/xml", "application/octet-stream", "text/plain"))
_FIELDS = ("UserId", "UserEmail", "UserExternalId", "Title", "Body", "Sound", "ExpirySecs", "CompanyId")
_NAMES = {name.lower(): name for name in (*_FIELDS, "IntegrationKey")}
_NAMING = (str, int, type(None))
_TRUE, _FALSE = frozenset(("true", "1")), frozenset(("false", "0", ""))


class Appenate(Dialect):
    """The one call of Appenate's API that is about push."""

    name = DialectName.APPENATE

    def calls(self) -> tuple[Call, ...]:
        """POST Push, with and without a slash at its end: customers write both."""
        return tuple(Call("POST", path, "Send a push to a user", self._push) for path in sorted(PATHS))

    def owns_path(self, path: str) -> bool:
        """The call's own path, whatever the method."""
        return path in PATHS

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """A ResponseStatus: clients print its Message and walk its Errors."""
        status = {
            "ErrorCode": "BadRequest" if error.status == 400 else error.code.title().replace("_", ""),
            "Message": "Something went wrong" if error.status == 500 else error.detail,
            "Errors": [
                {"ErrorCode": "Invalid", "FieldName": _field(fault.pointer), "Message": fault.detail}
                for fault in error.faults
            ],
        }
        return _answer(incoming, {"ResponseStatus": status}, error.status, problem.headers(error))

    async def _push(self, incoming: Incoming) -> Answer:
        raw = await incoming.body(
            types=_TYPES, bytes_max=BODY_BYTES_MAX, timeout_s=self.context.config.http.body_timeout_s
        )
        given = _known(dict(parse_qsl(incoming.raw_query))) | _parse(raw, _is_json(incoming))
        caller = await self.keys.caller(
            self.name, str(_int(given.get("CompanyId")) or ""), _text(given.get("IntegrationKey")), incoming
        )
        send = _send(given, await self._user(caller.app, given))
        await notifications.sent(self.context, caller.app, send)
        return _answer(incoming, {"ResponseStatus": {}}, 200, {})

    async def _user(self, app_id: int, given: Mapping[str, Any]) -> Audience:
        """Whom the identifiers name: all of them the same user."""
        leaves = _identifiers(given)
        if not leaves:
            detail = "say UserId, UserEmail or UserExternalId"
            raise InvalidRequestError("No user is named", faults=[Fault("/UserId", detail)])
        if len(leaves) == 1:
            return next(iter(leaves.values()))
        reach = kinds(PushType.ALERT)
        common: Devices | None = None
        for name, leaf in leaves.items():
            found = await resolve(self.context, app_id, leaf, reach)
            if any(found.unknown.values()):
                raise _nobody(name)
            common = found.devices if common is None else common & found.devices
        if not common:
            detail = "names another user than the others, or one without a device"
            raise InvalidRequestError("They do not name one user", faults=[Fault(f"/{it}", detail) for it in leaves])
        return next(iter(leaves.values()))


def _send(given: Mapping[str, Any], audience: Audience) -> Send:
    """The send that a request asks for; InvalidRequestError names what is missing or wrong."""
    faults = [Fault(f"/{name}", "is missing") for name in ("Title", "Body") if not _text(given.get(name))]
    sound, ttl_s = _bool(given.get("Sound")), _int(given.get("ExpirySecs"))
    if sound is None:
        faults.append(Fault("/Sound", "is neither true nor false"))
    if ttl_s is None or not 0 <= ttl_s <= TTL_MAX_S:
        faults.append(Fault("/ExpirySecs", f"is not a number of 0 to {TTL_MAX_S}"))
    for name, most in (("Title", 1000), ("Body", 4096)):
        if len(_text(given.get(name))) > most:
            faults.append(Fault(f"/{name}", f"is longer than {most} characters"))
    if faults:
        raise InvalidRequestError("The request is not valid", faults=faults)
    ring = "default" if sound else "none"
    message = Message(title=_text(given["Title"]), body=_text(given["Body"]), sound=ring, display_time_s=ttl_s or None)
    return Send(audience=audience, message=message, ttl_s=ttl_s or None)


def _identifiers(given: Mapping[str, Any]) -> dict[str, Audience]:
    """What names the user, by field, what names one alone before what several may share; empty texts name nobody."""
    leaves: dict[str, Audience] = {}
    if number := _name(given, "UserId", 20):
        if not 0 < (user_id := _int(number) or 0) <= ID_MAX:
            raise _nobody("UserId")
        leaves["UserId"] = UserNumbers([user_id])
    for name, leaf, most in (("UserExternalId", UserIds, 255), ("UserEmail", UserEmails, 254)):
        if text := _name(given, name, most):
            leaves[name] = leaf([text])
    return leaves


def _name(given: Mapping[str, Any], field: str, most: int) -> str:
    text = _text(value := given.get(field))
    if type(value) not in _NAMING or len(text) > most or "\0" in text:
        raise _nobody(field)
    return text


def _nobody(field: str) -> InvalidRequestError:
    return InvalidRequestError("The user is not known", faults=[Fault(f"/{field}", "names no user")])


# Bodies -----------------------------------------------------------------------------------------------------------


def _is_json(incoming: Incoming) -> bool:
    """Whether the body is JSON; without a Content-Type it is XML."""
    type_ = incoming.headers.get("Content-Type", XML).partition(";")[0].strip().lower()
    if type_ in {JSON, "text/json"}:
        return True
    if type_ in {XML, "text/xml"}:
        return False
    raise UnsupportedMediaTypeError("The body is application/json or application/xml")


def _parse(raw: bytes, is_json: bool) -> dict[str, Any]:
    """The fields of a body, by their own names: case does not matter, nor do unknown ones."""
    if is_json:
        try:
            decoded = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise InvalidRequestError("The body is not JSON") from None
        if not isinstance(decoded, dict):
            raise InvalidRequestError("The body is not a JSON object")
        return _known(decoded)
    try:
        root, declared = fromstring(raw, forbid_dtd=True), _namespaces(raw)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise InvalidRequestError("The body is not XML without a DTD") from None
    if ("i", SCHEMA) not in declared:
        raise InvalidRequestError(f'The root element lacks xmlns:i="{SCHEMA}"')
    return _known({child.tag.rpartition("}")[2]: child.text or "" for child in root if isinstance(child.tag, str)})


def _namespaces(raw: bytes) -> list[tuple[str, str]]:
    """Prefixes and namespaces that the root element declares."""
    found = []
    for event, value in iterparse(BytesIO(raw), ("start-ns", "start"), forbid_dtd=True):
        if event == "start":
            break
        found.append(value)
    return found


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    return {_NAMES[name.lower()]: value for name, value in given.items() if name.lower() in _NAMES}


def _text(value: Any) -> str:
    """A text, or what stands for one; nothing for nothing."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value else ""


def _int(value: Any) -> int | None:
    """A whole number, also as text; 0 for nothing, None for what is none."""
    if value is None or value == "":
        return 0
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = value.strip() if isinstance(value, str) else ""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def _bool(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


# Answers ----------------------------------------------------------------------------------------------------------


def _field(pointer: str) -> str:
    name = pointer.rpartition("/")[2]
    return {"title": "Title", "body": "Body", "ttl_s": "ExpirySecs"}.get(name, name)


def _wants_json(incoming: Incoming) -> bool:
    """`format` says it, else Accept, else the request's own form."""
    wanted = dict(parse_qsl(incoming.raw_query)).get("format", "").lower()
    if wanted in {"json", "xml"}:
        return wanted == "json"
    accept = incoming.headers.get("Accept", "").lower()
    if "json" in accept or "xml" in accept:
        return "json" in accept and not ("xml" in accept and accept.find("xml") < accept.find("json"))
    return "json" in incoming.headers.get("Content-Type", "").lower()


def _answer(incoming: Incoming, body: dict[str, Any], status: int, headers: Mapping[str, str]) -> Answer:
    if _wants_json(incoming):
        return Answer(orjson.dumps(body), status=status, headers=headers)
    root = Element("PushResponse", {"xmlns:i": SCHEMA})
    _add(root, body)
    raw: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return Answer(raw, status=status, headers=headers, content_type=f"{XML}; charset=utf-8")


def _add(parent: Element, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        child = SubElement(parent, name)
        if isinstance(value, Mapping):
            _add(child, value)
        elif isinstance(value, str):
            child.text = value
        for each in value if isinstance(value, list) else ():
            _add(SubElement(child, "ResponseError"), each)
