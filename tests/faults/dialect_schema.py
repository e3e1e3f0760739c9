"""What may be said to the dialects, as an OpenAPI document for schemathesis: every route, and real fields."""

import re

from pushd.dialects.backendless.api import Backendless
from pushd.model.vendor_key import DialectName
from tests.dialect_pages import calls
from tests.faults.dialect_words import PUSH_XML, TEXT, any_of, fields, listed

LEFT_OUT = {("POST", "/session"), ("POST", "/session.json")} | {
    (each.method, each.path) for each in calls(Backendless) if each.path.startswith("/api/")
}
"""The latter need a host of their own; of the former schemathesis would make a third of its requests."""
_PARAMETER = re.compile(r"\{(\w+)\}")
_FREE = {"type": "object"}


def document(dialects, keys):
    """The document; `keys` are what every call of a dialect is made with: headers, values of the path, and ids."""
    paths = {}
    for name, dialect in dialects.items():
        for call in calls(dialect):
            if call.method != "OPTIONS" and (call.method, call.path) not in LEFT_OUT:
                _add(paths, name, call, keys[name])
    return {"openapi": "3.1.0", "info": {"title": "dialects", "version": "1"}, "paths": paths}


def _add(paths, name, call, known):
    path = call.path
    for given, value in known.values.items():
        path = path.replace(f"{{{given}}}", str(value))
    parameters = [_parameter(each, "path", any_of(*known.ids)) for each in _PARAMETER.findall(path)]
    queries = QUERIES.get((name, _plain(call.path)), QUERIES.get(name, ()))
    parameters += [_parameter(each, "query", TEXT, required=False) for each in queries]
    for header, value in known.headers(call).items():
        parameters.append(_parameter(header, "header", {"type": "string", "const": value}))
    operation = {"operationId": f"{name} {call.method} {path}", "parameters": parameters}
    operation["responses"] = {"default": {"description": "anything"}}
    body = BODIES.get((name, f"{call.method} {_plain(call.path)}"))
    if body is not None and known.fields:
        said = {given: {"type": "string", "const": value} for given, value in known.fields.items()}
        required = [*body.get("required", ()), *said]
        body = body | {"properties": body.get("properties", {}) | said, "required": required}
    if call.method in {"POST", "PUT", "DELETE"} and (body is not None or call.method != "DELETE"):
        operation["requestBody"] = {"content": _content(name, path, body or _FREE)}
    paths.setdefault(path, {})[call.method.lower()] = operation


def _plain(path):
    """The path as the table of bodies has it."""
    return path.removeprefix("/{app_id}/{api_key}").removesuffix(".json").rstrip("/")


def _content(name, path, body):
    """One kind of body for each path: schemathesis cannot choose where it sends none."""
    if name == DialectName.CONNECTYCUBE and not path.endswith(".json"):
        return {"application/x-www-form-urlencoded": {"schema": body}}
    if name == DialectName.APPENATE and path.endswith("/"):
        return {"application/xml": {"schema": body | PUSH_XML}}
    return {"application/json": {"schema": body}}


def _parameter(name, place, schema, *, required=True):
    return {"name": name, "in": place, "required": required, "schema": schema}


QUERIES = {
    ("gravitec", "/api/v3/alias"): ("regId", "name"),
    ("gravitec", "/api/v3/tag"): ("regId", "name"),
    ("gravitec", "/api/v3/messages"): ("campaignID",),
    ("gravitec", "/api/sites/followers/identify"): ("appKey", "regID"),
    ("kumulos", "/v1/users/{id}/messages"): ("after",),
    "connectycube": ("page", "per_page", "login", "email", "tags", "id", "order", "filter[]", "limit", "offset"),
    "appenate": ("format", "CompanyId", "UserId"),
}
TIMES = "schedule:schedule intelligentDelivery:flag userMeta:free reportingMeta:free releaseWindowMinutes:number"
LOOKS = "ios:ios android:android ttl:number"
NOTIFICATION = fields(f"target:target! content:said! collapseId:text buttons:buttons {LOOKS} {TIMES}")
IN_APP = fields(
    f"target:target! template:template! presentedWhen:when! content:free data:free ttl:ttl inbox:inbox {TIMES}",
    notification=fields(f"title:text message:text {LOOKS}"),
)
SUBSCRIBED = fields("installIds:names userIds:names uuids:names")
PUBLICATION = "message:json headers:headers publishPolicy:policy pushBroadcast:systems pushSinglecast:names"
PUBLICATION += " publishAt:time repeatEvery:number repeatExpiresAt:time segmentQuery:text publisherId:text"
WHOM = {"user": fields("ids:ids tags:tags"), "external_user": fields("ids:ids")}
EVENT = fields(
    "notification_type:kind! push_type:channel environment:environment! message:message! name:text", ("user",), **WHOM
)
EVENT["properties"] |= fields("event_type:event_type date:time end_date:time period:period active:flag")["properties"]
PUSH = fields(
    "send_date:time ttl:number push_tag:text display_time:number is_transactional:flag segments:names",
    ("payload",),
    payload=fields("message:text! title:text icon:url image:url redirect_url:url buttons:links"),
    audience=fields("tokens:names aliases:names tags:names tags_segment:segment"),
)
PERSON = fields("login:text email:email password:text full_name:text tag_list:names external_user_id:id phone:text")
TOKEN = fields("environment:environment! client_identification_sequence:token web_endpoint:url bundle_identifier:text")
SITE = fields("appKey:text regID:text subscription:subscription lang:text timeZone:text tags:names tag:text alias:text")
FENCE = fields("name:text! isEnabled:flag tags:names boundsGeoJson:geojson!")
GATEWAYS = fields("android:free ios:free web:free hcm:free safari:free")
BODIES = {
    ("kumulos", "POST /v2/notifications"): NOTIFICATION,
    ("kumulos", "POST /notifications"): fields(
        "title:text! message:text! data:free url:url broadcast:flag userIds:names"
    ),
    ("kumulos", "POST /v1/templated-notifications"): fields(f"target:target! template:template! {TIMES}"),
    ("kumulos", "POST /v1/in-app-messages"): IN_APP,
    ("kumulos", "POST /v1/templates/in-app"): fields("name:text! uid:text! content:free!"),
    ("kumulos", "POST /v1/geofences"): FENCE,
    ("kumulos", "POST /channels"): fields("uuid:text! name:text showInPortal:flag meta:free"),
    ("kumulos", "POST /v1/channels"): fields("uuid:text! name:text userIdentifier:text installId:text meta:free"),
    ("kumulos", "PUT /v1/apps/{id}"): GATEWAYS,
    ("kumulos", "POST /v1/app-installs/{id}/events"): listed(fields("type:sort uuid:text timestamp:time data:free")),
    **{("kumulos", f"{verb} /v2/channels/{{uuid}}/subscriptions"): SUBSCRIBED for verb in ("POST", "DELETE")},
    **{
        ("kumulos", f"{verb} /v1/{whose}/{{id}}/channels/subscriptions"): SUBSCRIBED
        for verb in ("POST", "PUT", "DELETE")
        for whose in ("users", "app-installs")
    },
    ("connectycube", "POST /session"): fields("nonce:number signature:text", user=PERSON),
    ("connectycube", "POST /login"): PERSON,
    ("connectycube", "POST /users"): fields("", ("user",), user=PERSON),
    ("connectycube", "PUT /users/{id}"): fields("", ("user",), user=PERSON),
    ("connectycube", "POST /subscriptions"): fields(
        "notification_channel:channel!",
        ("push_token", "device"),
        push_token=TOKEN,
        device=fields("platform:platform! udid:text!"),
    ),
    ("connectycube", "POST /events"): fields("", ("event",), event=EVENT),
    ("connectycube", "PUT /events/{id}"): fields("", ("event",), event=EVENT),
    ("backendless", "POST /messaging/{id}"): fields(PUBLICATION),
    ("backendless", "POST /messaging/push/{name}"): fields("templateValues:free"),
    ("backendless", "POST /messaging/registrations"): fields(
        "deviceToken:token! deviceId:text! os:system! osVersion:text channels:names expiration:time"
    ),
    ("backendless", "POST /users/register"): fields("email:email login:text password:text name:json objectId:text"),
    ("backendless", "POST /users/login"): fields("login:text password:text objectId:text"),
    ("backendless", "PUT /users/{id}"): fields("email:email login:text password:text name:json"),
    ("gravitec", "POST /api/v3/push"): PUSH,
    **{
        ("gravitec", f"{verb} /api/sites/followers{path}"): SITE
        for verb, path in (
            *(("POST", ""), ("DELETE", ""), ("PUT", "/tags"), ("POST", "/tags"), ("DELETE", "/tags")),
            *(("DELETE", "/tag"), ("PUT", "/alias")),
        )
    },
    ("appenate", "POST /api/v2/push"): fields(
        "UserId:id UserEmail:email UserExternalId:named! Title:text! Body:text! Sound:flag ExpirySecs:number"
    ),
}
