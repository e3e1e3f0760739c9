"""Appenate's push call: each sample of its document, each error, both forms (chapter 6 of the contracts)."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import orjson
import pytest
import pytest_asyncio

PATH = "/api/v2/push"
XMLNS = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'
JSON = {"Content-Type": "application/json"}
XML = {"Content-Type": "application/xml"}

pytestmark = pytest.mark.asyncio(loop_scope="package")


class Customer:
    """A customer of the vendor's: a company with a key, and one user with a phone."""

    def __init__(self, tenant, key, secret):
        self.tenant, self.company, self.secret = tenant, int(key["identity"]), secret
        self.session, self.root = tenant.server._session, tenant.server.base.removesuffix("/pushd/v1")

    def body(self, **fields):
        own = {"UserExternalId": "anna", "Title": "Hello", "Body": "There", "CompanyId": self.company}
        return {**own, "IntegrationKey": self.secret, **fields}

    async def post(self, data, headers=JSON, path=PATH, method="POST", **params):
        async with self.session.request(method, self.root + path, data=data, headers=headers, params=params) as answer:
            return answer.status, answer.content_type, await answer.read(), answer.headers

    async def json(self, **fields):
        status, type_, raw, _ = await self.post(orjson.dumps(self.body(**fields)))
        assert type_ == "application/json"
        return status, orjson.loads(raw)

    async def pushes(self, count):
        record = self.tenant.simulator.record
        async with asyncio.timeout(10):
            while record.count(self.token, status=200) < count:
                await asyncio.sleep(0.01)
        return record.pushes(self.token)


@pytest_asyncio.fixture(loop_scope="package")
async def customer(tenant):
    made = await tenant.server.ok("POST", "/vendor-keys", {"dialect": "appenate"})
    customer = Customer(tenant, made["key"], made["secret"])
    user = await tenant.server.ok("PUT", "/users/anna", {"email": "anna@example.com"})
    customer.user_id = user["id"]
    customer.token = (await tenant.register("anna-phone", user_id="anna"))["token"]
    return customer


async def test_the_sample_body_with_its_fields_filled_in(customer):
    sample = {"UserId": "", "UserEmail": "", "Sound": False, "ExpirySecs": 0}
    assert await customer.json(**sample) == (200, {"ResponseStatus": {}})
    (push,) = await customer.pushes(1)
    aps = orjson.loads(push.payload)["aps"]
    assert aps["alert"] == {"title": "Hello", "body": "There"}
    assert "sound" not in aps


async def test_sound_and_expiry_reach_the_device(customer):
    status, _ = await customer.json(Sound=True, ExpirySecs=600)
    assert status == 200
    (push,) = await customer.pushes(1)
    assert orjson.loads(push.payload)["aps"]["sound"] == "default"
    left_s = int(dict(push.headers)["apns-expiration"]) - push.at_ms / 1000
    assert 590 < left_s <= 600
    (sent,) = (await customer.tenant.server.ok("GET", "/notifications"))["items"]
    assert (sent["ttl_s"], sent["message"]["display_time_s"]) == (600, 600)


@pytest.mark.parametrize("field", ["UserId", "UserEmail", "UserExternalId"])
async def test_each_identifier_names_the_user(customer, field):
    value = {"UserId": str(customer.user_id), "UserEmail": "Anna@Example.com", "UserExternalId": "anna"}[field]
    assert (await customer.json(**{"UserExternalId": "", field: value}))[0] == 200
    await customer.pushes(1)


async def test_all_identifiers_of_one_user_are_one_user(customer):
    fields = {"UserId": customer.user_id, "UserEmail": "anna@example.com"}
    assert (await customer.json(**fields))[0] == 200
    assert len(await customer.pushes(1)) == 1


async def test_identifiers_of_different_users_are_400(customer):
    await customer.tenant.server.ok("PUT", "/users/ben", {})
    await customer.tenant.register("ben-phone", user_id="ben")
    status, body = await customer.json(UserExternalId="ben", UserEmail="anna@example.com")
    assert status == 400
    assert {each["FieldName"] for each in body["ResponseStatus"]["Errors"]} == {"UserExternalId", "UserEmail"}


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"Title": ""}, 400, "Title"),
        ({"Body": ""}, 400, "Body"),
        ({"Title": "x" * 1001}, 400, "Title"),
        ({"UserExternalId": ""}, 400, "UserId"),
        ({"UserExternalId": "nobody"}, 400, None),
        ({"UserId": "not a number", "UserExternalId": ""}, 400, "UserId"),
        ({"UserId": 7.5}, 400, "UserId"),
        ({"UserId": True}, 400, "UserId"),
        ({"UserExternalId": "a\0"}, 400, "UserExternalId"),
        ({"UserEmail": ["anna@example.com"]}, 400, "UserEmail"),
        ({"Sound": "perhaps"}, 400, "Sound"),
        ({"ExpirySecs": -1}, 400, "ExpirySecs"),
        ({"ExpirySecs": "soon"}, 400, "ExpirySecs"),
        ({"IntegrationKey": "wrong"}, 401, None),
        ({"IntegrationKey": ""}, 401, None),
        ({"CompanyId": 0}, 401, None),
        ({"CompanyId": 1}, 401, None),
    ],
)
async def test_errors_name_their_field(customer, fields, status, field):
    found, body = await customer.json(**fields)
    assert found == status, body
    said = body["ResponseStatus"]
    assert said["ErrorCode"]
    assert said["Message"]
    if field is not None:
        assert [each["FieldName"] for each in said["Errors"]] == [field]


async def test_names_of_fields_have_no_case_and_unknown_ones_are_ignored(customer):
    body = {name.upper(): value for name, value in customer.body().items()} | {"Colour": "red"}
    status, _, raw, _ = await customer.post(orjson.dumps(body))
    assert (status, orjson.loads(raw)) == (200, {"ResponseStatus": {}})


async def test_company_and_key_may_stand_in_the_query(customer):
    body = customer.body(CompanyId=None, IntegrationKey=None)
    del body["CompanyId"], body["IntegrationKey"]
    status, *_ = await customer.post(
        orjson.dumps(body), CompanyId=str(customer.company), IntegrationKey=customer.secret
    )
    assert status == 200


def xml(root=f"<Push {XMLNS}>", **fields):
    children = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f"{root}{children}</{root[1:].split()[0].rstrip('>')}>".encode()


@pytest.mark.parametrize("headers", [XML, {"Content-Type": "text/xml; charset=utf-8"}])
async def test_xml_in_and_out(customer, headers):
    status, type_, raw, _ = await customer.post(xml(**customer.body()), headers)
    assert (status, type_) == (200, "application/xml")
    assert ET.fromstring(raw).find("ResponseStatus") is not None
    await customer.pushes(1)


async def test_without_a_content_type_it_is_xml(customer):
    session = customer.session
    url = customer.root + PATH
    skip = {"skip_auto_headers": ("Content-Type", "Accept")}
    async with session.post(url, data=xml(**customer.body()), **skip) as answer:
        assert (answer.status, answer.content_type) == (200, "application/xml")
    async with session.post(url, data=orjson.dumps(customer.body()), **skip) as answer:
        assert (answer.status, answer.content_type) == (400, "application/xml")


@pytest.mark.parametrize(
    "root",
    [
        "<Push>",
        '<Push xmlns:i="http://example.com/other">',
        '<Push xmlns:j="http://www.w3.org/2001/XMLSchema-instance">',
    ],
)
async def test_xml_without_the_namespace_is_400(customer, root):
    status, type_, raw, _ = await customer.post(xml(root, **customer.body()), XML)
    assert (status, type_) == (400, "application/xml")
    assert "xmlns:i" in ET.fromstring(raw).findtext("ResponseStatus/Message")


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE Push [<!ENTITY a "aaaa">]>',
        '<!DOCTYPE Push SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE Push [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
async def test_xml_with_a_dtd_is_400(customer, prolog):
    status, *_ = await customer.post(prolog.encode() + xml(**customer.body()), XML)
    assert status == 400


@pytest.mark.parametrize("data", [b"", b"{", b"<Push", b"[]", b'"x"', b"\xff\xfe"])
@pytest.mark.parametrize("headers", [JSON, XML])
async def test_what_is_neither_json_nor_xml_is_400(customer, data, headers):
    status, type_, *_ = await customer.post(data, headers)
    assert (status, type_) == (400, headers["Content-Type"])


@pytest.mark.parametrize(("said", "type_"), [("xml", "application/xml"), ("JSON", "application/json")])
async def test_a1_format_decides_the_answers_form(customer, said, type_):
    for headers, data in ((JSON, orjson.dumps(customer.body())), (XML, xml(**customer.body()))):
        status, found, *_ = await customer.post(data, headers, format=said)
        assert (status, found) == (200, type_)


async def test_a_slash_at_the_end_is_the_same(customer):
    status, *_ = await customer.post(orjson.dumps(customer.body()), path=PATH + "/")
    assert status == 200


async def test_errors_of_the_server_have_the_vendors_shape(customer):
    status, type_, raw, headers = await customer.post(b"", method="GET", headers={"Accept": "application/json"})
    assert (status, type_, headers["Allow"]) == (405, "application/json", "POST")
    assert orjson.loads(raw)["ResponseStatus"]["ErrorCode"] == "MethodNotAllowed"
    status, _, raw, _ = await customer.post(b"x" * 70_000)
    assert status == 413
    assert orjson.loads(raw)["ResponseStatus"]["Message"]
    status, _, raw, _ = await customer.post(b"x", {"Content-Type": "image/png", "Accept": "application/json"})
    assert status == 415
    assert orjson.loads(raw)["ResponseStatus"]["Message"]


async def test_a_revoked_key_is_401_at_once(customer):
    assert (await customer.json())[0] == 200
    (key,) = (await customer.tenant.server.ok("GET", "/vendor-keys"))["items"]
    await customer.tenant.server.ok("POST", f"/vendor-keys/{key['id']}/revoke")
    assert (await customer.json())[0] == 401


async def test_a_company_belongs_to_one_app(customer, world):
    other = await world.tenant()
    body = {"dialect": "appenate", "identity": str(customer.company), "secret": "another-secret"}
    answer = await other.server("POST", "/vendor-keys", json=body)
    assert (answer.status, answer.code) == (409, "conflict")
    # The vendor's own pair is taken over as it is, beside the first.
    await customer.tenant.server.ok("POST", "/vendor-keys", body)
    assert (await customer.json(IntegrationKey="another-secret"))[0] == 200
