import json
import re
from types import SimpleNamespace
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta, Struct
from openapi_spec_validator import validate

from pushd.api import docs, documentation, native, openapi
from pushd.api.operation import Operation, Scope
from pushd.api.serve import PREFIX
from pushd.config import Config
from pushd.errors import ForbiddenError, NotFoundError, PayloadTooLargeError, PushdError
from pushd.model.app import Settings
from pushd.web.router import Router


@pytest.fixture(scope="module")
def document():
    return json.loads(msgspec.json.encode(openapi.document(native.OPERATIONS)))


@pytest.fixture(scope="module")
def router():
    made = Router()
    native.mount(made, SimpleNamespace(config=Config()), None, b"k" * 32, None)
    return made


def test_the_document_is_openapi_3_1(document):
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_route_is_in_the_document_and_the_other_way_round(document, router):
    served = {
        (method, template.removeprefix(PREFIX)) for method, template in router.templates if template.startswith(PREFIX)
    }
    written = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert written == {(method, path) for method, path in served if path not in docs.PATHS}
    assert {path for _, path in served} >= docs.PATHS


def test_names_are_unique_and_every_operation_is_explained(document):
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert "Keys: " in operation["description"]
        assert {"401", "500", "503"} <= set(operation["responses"])


def test_bodies_have_an_example_that_their_type_takes():
    for operation in native.OPERATIONS:
        body = operation.body if operation.body is not None else operation.body_lines
        if body is not None:
            assert operation.example is not None, operation.name
            msgspec.convert(operation.example, body)


def test_every_reference_leads_somewhere(document):
    text = json.dumps(document)
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"]
    assert not re.search(r'"\$ref": "(?!#/)', text)


def test_problems_are_listed_with_their_types(document):
    listed = {problem["code"] for problem in document["x-problems"]}
    assert {error.code for error in PushdError.__subclasses__()} - listed == {"invalid_configuration"}


class Parameters(Struct, frozen=True):
    thing_id: int
    name: Annotated[str, Meta(description="Of the thing.")] | None = None


class Thing(Struct):
    """A thing."""

    name: str
    """What it is called."""
    size: int = 1


def table(**more):
    plain = {"name": "op", "method": "POST", "path": "/things", "tag": "apps", "summary": "s", "handler": None}
    return openapi.document([Operation(**(plain | more))])


def test_parameters_come_from_path_query_and_headers():
    document = table(path="/things/{thing_id}", params=Parameters, idempotent=True)
    made = {one["name"]: one for one in document["paths"]["/things/{thing_id}"]["post"]["parameters"]}
    assert (made["thing_id"]["in"], made["thing_id"]["required"]) == ("path", True)
    assert made["name"] == {
        "name": "name", "in": "query", "required": False, "schema": {"type": "string"}, "description": "Of the thing."
    }  # fmt: skip
    assert {"Pushd-App", "Idempotency-Key"} <= set(made)
    assert "parameters" not in table(scope=Scope.INSTALLATION)["paths"]["/things"]["post"]


def test_errors_follow_from_the_shape_of_an_operation():
    plain = {"name": "op", "method": "GET", "path": "/things", "tag": "apps", "summary": "s", "handler": None}
    without = openapi.errors_of(Operation(**plain, scope=Scope.INSTALLATION))
    assert not {NotFoundError, PayloadTooLargeError} & set(without)
    assert ForbiddenError in without
    assert PayloadTooLargeError in openapi.errors_of(Operation(**plain, body_lines=Thing))
    assert PayloadTooLargeError in openapi.errors_of(Operation(**plain, media=frozenset({"text/csv"})))


def test_docstrings_under_fields_are_descriptions():
    assert documentation.field_docstrings(Settings)["icon"] == "URL of the default icon."
    schema = table(body=Thing)["components"]["schemas"]["Thing"]
    assert schema["description"] == "A thing."
    assert "description" not in schema["properties"]["size"]


def test_an_operation_that_contradicts_itself_is_a_bug():
    for wrong in ({"path": "/things/{other}"}, {"body": Thing, "body_lines": Thing}, {"statuses": ()}):
        with pytest.raises(AssertionError):
            table(**wrong)
