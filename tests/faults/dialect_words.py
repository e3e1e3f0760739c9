"""Values that the dialects' fields may have, as JSON Schema, by short names: some make sense, some nearly do."""

ANYTHING = {}
TEXT = {"type": "string"}


def any_of(*values):
    """One of these values; what is none of them schemathesis makes by itself, in half of its requests."""
    return {"enum": list(values)}


def listed(schema):
    """A list of a few."""
    return {"type": "array", "items": schema, "maxItems": 4}


def fields(said, needs=(), **more):
    """An object with these fields, written as `name:word`, and `name:word!` where the call cannot do without."""
    pairs = [each.partition(":")[::2] for each in said.split()]
    known = {name: WORDS[word.rstrip("!")] for name, word in pairs if word.rstrip("!") in WORDS}
    required = [name for name, word in pairs if word.endswith("!")]
    return {
        "type": "object",
        "properties": known | more,
        "required": [*required, *needs],
        "additionalProperties": False,
    }


def _number(*values):
    return {"anyOf": [{"enum": list(values)}, {"enum": list(values)}, {"type": "integer"}]}


SOON, LATER = 1_900_000_000, 1_900_000_000_000
"""In seconds, and in milliseconds."""
DATA = "eyJtZXNzYWdlIjoieCIsImlvc19iYWRnZSI6Mn0="
"""An object with a message, in base64."""
NAMES = listed(any_of("user-1", "install-1", "news", "\u00e9"))
URL = any_of("https://example.com/a.png", "https://example.com/b.jpg", "http://example.com", "https://[")
POINT = {"type": "Feature", "properties": {"radius": 425}, "geometry": {"type": "Point", "coordinates": [-73.9, 40.7]}}
WORDS = {
    "text": {"anyOf": [any_of("anna", "user-1", "install-1", "news", "Europe/Berlin", "\u0000"), TEXT]},
    "named": any_of("user-1", "user-2"),
    "email": any_of("a@example.com", "b@example.com", "nobody"),
    "token": any_of("ab" * 32, "d3Fg_x:APA91b-1", "!"),
    "json": ANYTHING,
    "free": {"type": "object"},
    "flag": {"anyOf": [{"type": "boolean"}, {"enum": ["true", "1", 1, 0, "maybe", ""]}]},
    "number": _number(0, 1, 60, 1440, 28_800, "7"),
    "numbers": listed(_number(1, 2)),
    "id": _number(1, 2, "1", 5),
    "time": _number(SOON, LATER, LATER, "now", "", 1e300),
    "names": NAMES,
    "ids": {"anyOf": [listed(_number(1, 2)), any_of("1,2", "1", ",")]},
    "url": URL,
    "message": any_of(
        DATA, "payload=" + DATA, "data.message=eA==&data.a=eA==", "eA==", "%25", "subject=eA==&body=eA=="
    ),
    "channel": any_of("apns", "apns_voip", "gcm", "web"),
    "kind": any_of("push", "email"),
    "environment": any_of("development", "production"),
    "event_type": any_of("one_shot", "fixed_date", "period_date"),
    "period": _number(86_400, 604_800, 2_592_000, 31_557_600),
    "platform": any_of("ios", "android", "web"),
    "tags": {"type": "object", "properties": dict.fromkeys(("any", "all", "exclude"), NAMES)},
    "policy": any_of("PUSH", "PUBSUB", "BOTH"),
    "systems": _number(1, 2, 3, 7, 15, "IOS|ANDROID", "FOR_ALL"),
    "system": any_of("IOS", "ANDROID", "OSX", "WP"),
    "headers": {
        "type": "object",
        "properties": dict.fromkeys(("ios-alert", "ios-badge", "android-content-title"), TEXT),
    },
    "template": any_of("offers", "offer"),
    "when": any_of("immediately", "next-open", "never"),
    "sort": any_of(
        *("k.push.deviceRegistered", "k.push.deviceUnsubscribed", "k.stats.installTracked", "k.stats.userAssociated"),
        *("k.message.opened", "k.message.read", "k.engage.locationUpdated", "k.inApp.statusUpdated", "own"),
    ),
    "geojson": {"anyOf": [{"const": POINT}, {"type": "object"}]},
}
WHOM = fields("broadcast:flag installIds:names userIds:names segmentUuid:text channelUuids:names geofenceIds:numbers")
WHOM["properties"] |= fields("geofenceTags:names geofenceBroadcast:flag excludeInstallIds:names")["properties"]
WORDS["target"] = {"anyOf": [{"const": {"broadcast": True}}, {"const": {"userIds": ["user-1"]}}, WHOM]}
WORDS["said"] = fields("title:text! message:text! url:url data:free")
WORDS["schedule"] = {
    "type": "object",
    "properties": {
        "sendAt": any_of("2030-11-22 10:00", "2030-11-22", "2030-02-30 10:00"),
        "strategy": any_of("local", "utc", "timezone", "intelligent"),
        "pastTimes": any_of("ignore", "nextDay"),
        "timezone": any_of("Europe/Berlin", "../x"),
    },
}
WORDS["badge"] = fields("count:number", type=any_of("setTo", "incrementBy"))
WORDS["ios"] = fields("badge:badge category:text sound:text relevanceScore:number", media=fields("pictureUrl:url"))
WORDS["android"] = fields("highPriority:flag sound:text pictureUrl:url notificationChannel:text")
WORDS["buttons"] = listed(fields("id:text text:text"))
WORDS["links"] = listed(fields("title:text url:url"))
WORDS["segment"] = listed(fields("name:text", association=any_of("AND", "AND_NOT", "OR", "OR_NOT")))
WORDS["ttl"] = fields("expiresIn:number", units=any_of("d", "h"))
WORDS["inbox"] = fields("title:text subtitle:text imageUrl:url", availability=fields("from:text to:text"))
WORDS["subscription"] = fields("endpoint:url", keys=fields("p256dh:text auth:text"))
PUSH_XML = {"xml": {"name": "Push", "prefix": "i", "namespace": "http://www.w3.org/2001/XMLSchema-instance"}}
"""The root of a body in XML, which has to declare this namespace."""
