"""A user who is erased is in no dump of the database; others are where they were, and every column is decided about."""

from __future__ import annotations

import asyncio
import os

import pytest
import pytest_asyncio

from pushd.commands.erasures import Eraser
from pushd.model.imports import Users
from pushd.store.erasures import NUMBERED, PLACES
from pushd.store.programs import account, find
from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio

HIS = "ada-lovelace-7f3a9c51"
EMAIL = "ada@engine.example"
INSTALL = "install-of-ada-5d21"
ALIAS = "ada's own telephone"
TOKEN = "ada7" * 16
SECRET = "difference engine number two"
PLAN = "countess-of-lovelace"
LOGIN = "ada-on-the-telephone"
MARKS = (LOGIN, HIS, EMAIL, INSTALL, ALIAS, TOKEN, SECRET, PLAN)
OTHER = "charles-babbage-11"
HELLO = {"title": "Hello"}

TEXTS = """
SELECT c.relname AS table, a.attname AS column FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid IN ('text'::regtype, 'text[]'::regtype, 'bytea'::regtype, 'json'::regtype, 'jsonb'::regtype)
ORDER BY 1, 2
"""
GONE = {
    ("users", "external_id"),
    ("users", "email"),
    ("users", "attributes"),
    ("installs", "name"),
    ("installs", "alias"),
    ("devices", "token"),
    ("devices", "alias"),
    ("erasures", "texts"),
    *(("accounts", column) for column in ("login", "email", "password", "fields")),
    ("sessions", "digest"),
    *(("dialect_events", column) for column in ("told", "target")),
}
"""Emptied, or gone with their row, when the erasure begins; what is looked for by, when it ends."""
UPLOADED = {("import_parts", "body"), ("import_parts", "digest")}
"""Of files that were uploaded and are carried out still: what they say is new when it is."""
SETS = {
    *((table, "devices") for table in ("targets", "outcome_deltas", "outcome_parts", "attempts")),
    *((table, "devices") for table in ("receipt_deltas", "receipt_parts", "opened_day_deltas", "opened_days")),
    ("events", "devices"),
    ("in_app_parts", "ids"),
    ("open_deltas", "opens"),
    ("tallies", "persons"),
    *(("badge_deltas", "devices"), ("badge_parts", "devices"), ("badge_parts", "counts")),
    ("habits", "weights"),
    ("crowds", "weights"),
}
"""Numbers: of devices and users that are not there any more."""
OF_THE_APP = {
    *(("apps", column) for column in ("name", "settings")),
    *(("api_keys", column) for column in ("role", "name", "hint", "digest")),
    *(("credentials", column) for column in ("gateway", "environment", "name", "summary", "sealed", "state")),
    ("credentials", "paused_reason"),
    ("nodes", "name"),
    ("migrations", "name"),
    ("migrations", "checksum"),
    ("routes", "bundle"),
    ("routes", "shape"),
    *(("profiles", c) for c in ("platform", "os_version", "app_version", "locale", "country", "time_zone")),
    *(("labels", column) for column in ("name", "folded")),
    ("devices", "retired_reason"),
    *(("channels", column) for column in ("uuid", "name", "meta")),
    *(("segments", column) for column in ("uuid",)),
    *(("imports", column) for column in ("job", "state")),
    *(("geofences", column) for column in ("name", "bounds", "tags")),
    *(("safari_sites", column) for column in ("website_push_id", "settings")),
    *(("pictures", column) for column in ("name", "body")),
    *(("live_activity_channels", column) for column in ("channel_id", "bundle", "key", "body_hash")),
    ("idempotency", "body_hash"),
    *((table, "button") for table in ("receipts", "receipt_deltas", "receipt_parts")),
    ("tallies", "category"),
    ("releases", "selector"),
    ("schedules", "stage"),
    ("sessions", "dialect"),
    ("dialect_events", "dialect"),
    *(("vendor_keys", column) for column in ("dialect", "role", "identity", "digest", "sealed", "name", "hint")),
    *(("templates", column) for column in ("uid", "name")),
    *(("webhooks", column) for column in ("name", "url", "sealed", "state", "reason", "failure")),
    ("webhook_letters", "failure"),
}
"""What apps call their own things, and what is made of nothing that anybody said of himself."""


@pytest_asyncio.fixture
async def call(dsn):
    async with native(dsn) as made:
        made.dsn = dsn
        yield made


async def dumped(dsn, folder) -> str:
    """The whole database, as statements."""
    process = await asyncio.create_subprocess_exec(
        os.fspath(find(None, folder, account()).postgres.parent / "pg_dump"),
        *("--no-owner", "--inserts", "--dbname", dsn),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    return out.decode()


def marks_in(text: str) -> set[str]:
    """Marks that a dump holds, as text or as octets in hexadecimal."""
    spelt = {mark: (mark, mark.replace("'", "''"), mark.encode().hex()) for mark in MARKS}
    return {mark for mark, forms in spelt.items() if any(form in text for form in forms)}


async def ok(call, method, path, body=None, **options):
    answer = await call(method, path, **({} if body is None else {"json": body}), **options)
    assert answer.status < 300, (path, answer.body)
    return answer.body


async def log_in(call, external_id):
    """Gives a user an account, as SDKs of dialects do."""
    await call.world.context.store.database.execute(
        "INSERT INTO accounts SELECT id, app_id, $2, $3, 'secret', $4, now(), now() FROM users"
        " WHERE external_id = $1 AND app_id = $5",
        *(external_id, LOGIN, EMAIL, f'{{"full_name": "{LOGIN}"}}', call.world.app.id),
    )


async def live(call):
    """Fills the app with what it knows of two users; the id of a send to both."""
    for name, user, token, alias in ((INSTALL, HIS, TOKEN, ALIAS), ("c-1", OTHER, "c0" * 32, "c")):
        body = {"install_id": name, "bundle": "b", "token": token, "user_id": user, "alias": alias, "tags": ["x"]}
        device = await ok(call, "PUT", "/devices", body)
        await ok(call, "PUT", f"/devices/{device['id']}/location", {"latitude": 51.5, "longitude": -0.1})
    await log_in(call, HIS)
    insert = """INSERT INTO dialect_events (id, app_id, dialect, user_id, target, notification_id, told, created_at,
        updated_at) SELECT $1::int, app_id, 'connectycube', CASE WHEN $2 = '' THEN id ELSE 0 END, nullif($2, ''), 1,
            json_build_object('message', $3::text, 'name', $4::text), now(), now()
        FROM users WHERE external_id = $5 AND app_id = $6"""
    for at, target in enumerate(("", f"external:{HIS}"), 1):
        told = (at, target, SECRET, EMAIL, HIS, call.world.app.id)
        await call.world.context.store.database.execute(insert, *told)
    await ok(call, "POST", "/segments", {"name": LOGIN, "uuid": "s", "audience": {"type": "users", "ids": [LOGIN]}})
    change = {"email": EMAIL, "attributes": {"title": PLAN}, "tags": ["countess"]}
    await ok(call, "PUT", f"/users/{HIS}", change)
    both = {"audience": {"type": "users", "ids": [HIS, OTHER]}, "message": HELLO, "name": f"for {EMAIL}"}
    number = (await ok(call, "POST", "/notifications", both))["id"]
    alone = {"audience": {"type": "users", "ids": [HIS]}, "message": {"title": "Dear", "body": SECRET}}
    await ok(call, "POST", "/notifications", alone, headers={"Idempotency-Key": f"letter to {HIS}"})
    named = {"audience": {"type": "users", "ids": [OTHER, f"{HIS}-twin"]}, "message": HELLO}
    await ok(call, "POST", "/notifications", named, headers={"Idempotency-Key": "two"})
    later = {"schedule": {"strategy": "utc", "send_at": "2100-01-01T00:00:00Z", "past_times": "ignore"}}
    await ok(call, "POST", "/notifications", both | later)
    await ok(call, "POST", "/segments", {"name": "friends", "uuid": "f", "audience": both["audience"]})
    rows = [
        {"id": str(at), "notification_id": number, "event": "opened", "install_id": name}
        for at, name in enumerate((INSTALL, "c-1"))
    ]
    assert (await ok(call, "POST", "/receipts", {"receipts": rows}))["taken"] == 2
    for audience in ([HIS], [HIS, OTHER]):
        content = {"title": SECRET if audience == [HIS] else "Hello"}
        body = {"audience": {"type": "users", "ids": audience}, "content": content, "presented_when": "never"}
        body |= {"inbox": {"title": f"for {HIS}"}, "push": {"message": {"title": "See"}, "name": EMAIL}, "name": HIS}
        await ok(call, "POST", "/in-app-messages", body, headers={"Idempotency-Key": f"to {audience}"})
    store = call.world.context.store
    made = await store.imports.create(call.world.app.id, Users(), None, 5)
    await store.database.execute(
        "INSERT INTO import_rejects VALUES ($1, 1, $2, 'no'), ($1, 2, 'another line', 'no')", made.id, f"{HIS},{EMAIL}"
    )
    await store.database.execute("UPDATE imports SET head = $2 WHERE id = $1", made.id, f"{EMAIL}\n".encode())
    return number


async def test_nothing_of_him_is_in_a_dump(call, tmp_path):
    number = await live(call)
    context = call.world.context
    assert marks_in(await dumped(call.dsn, tmp_path)) == set(MARKS)
    known = (await ok(call, "GET", f"/users/{HIS}"))["id"]

    answer = await call("POST", f"/users/{HIS}/erase")
    assert (answer.status, answer.body["installs"], answer.body["devices"]) == (202, 1, 1)
    assert (await call("GET", f"/users/{HIS}")).status == 404
    assert (await ok(call, "GET", f"/devices?install_id={INSTALL}"))["items"] == []
    count = {"audience": {"type": "users", "ids": [HIS]}}
    assert (await ok(call, "POST", "/audience/count", count))["errors"]["unknown"]["users"] == [HIS]
    assert known not in context.index.known({call.world.app.id})[1]
    assert await Eraser(context).sweep() == 1
    assert await Eraser(context).sweep() == 0

    assert marks_in(await dumped(call.dsn, tmp_path)) == set()
    done = await ok(call, "GET", f"/erasures/{answer.body['id']}")
    assert done["finished_at"] is not None
    assert (await ok(call, "GET", "/erasures"))["items"] == [done]
    assert (await call("GET", f"/erasures/{done['id']}", key="other")).status == 404
    assert (await call("POST", f"/users/{HIS}/erase")).status == 404

    # The other one is where he was.
    assert (await ok(call, "GET", f"/users/{OTHER}"))["external_id"] == OTHER
    opens = (await ok(call, "GET", f"/notifications/{number}/install-opens"))["items"]
    assert [each["install_id"] for each in opens] == ["c-1"]
    view = await ok(call, "GET", f"/notifications/{number}")
    assert (view["audience"]["ids"], view["message"]["title"], view["name"]) == (["erased", OTHER], "Hello", "erased")
    assert view["counts"]["targeted"] == 2
    shown = (await ok(call, "GET", f"/users/{OTHER}/inbox"))["items"]
    assert [(each["content"], each["inbox"]["title"]) for each in shown] == [({"title": "Hello"}, "for erased")]
    rejects = await context.store.database.fetch("SELECT value FROM import_rejects")
    assert [row["value"] for row in rejects] == ["another line"]
    # A node that starts now, and one that follows the feed, know nothing of him either.
    assert known not in (await call.world.reloaded()).known({call.world.app.id})[1]
    # He may come again, and is another.
    again = await ok(call, "PUT", f"/users/{HIS}", {})
    assert again["id"] != known


async def test_what_another_app_says_of_the_same_name_stays(call, tmp_path):
    await live(call)
    theirs = {"external": HIS, "title": f"about {HIS}"}
    await ok(call, "PUT", f"/users/{HIS}", {"attributes": theirs}, key="other")
    assert (await call("POST", f"/users/{HIS}/erase", key="other")).status == 202
    assert await Eraser(call.world.context).sweep() == 1
    assert marks_in(await dumped(call.dsn, tmp_path)) == set(MARKS)
    assert (await ok(call, "GET", f"/users/{HIS}"))["email"] == EMAIL


async def test_every_column_that_can_hold_text_is_decided_about(call):
    rows = await call.world.context.store.database.fetch(TEXTS)
    found = {(row["table"], row["column"]) for row in rows}
    decided = {(place.table, place.column) for place in PLACES} | GONE | UPLOADED | SETS | OF_THE_APP
    assert found - decided == set(), "may it hold what somebody said of a person? then it belongs into PLACES"
    assert decided - found <= {("migrations", "name"), ("migrations", "checksum"), *SETS}
    tables = {place.table for place in PLACES} | set(NUMBERED)
    assert tables <= {row["table"] for row in rows}
