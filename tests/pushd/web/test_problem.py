import json

import pytest

from pushd import errors
from pushd.errors import ConfigError, Fault, InternalError, InvalidRequestError, PushdError, UnknownTargetsError
from pushd.web import problem

ERRORS = [each for each in PushdError.__subclasses__() if each.__module__ == "pushd.errors"]
"""What callers are answered with; parts that have errors of their own inside keep them."""


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_problem_of_its_own(error):
    made = json.loads(problem.encode(error(), "ref"))
    assert made["type"] == problem.TYPE_BASE + error.code
    assert (made["status"], made["code"], made["title"]) == (error.status, error.code, error.title)
    assert made["detail"]
    answer = problem.render(error(), "ref")
    assert ("Retry-After" in answer.headers) is error.retryable


def test_codes_are_unique():
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    assert errors.ConfigError in ERRORS


def test_faults_are_pointers_or_parameters():
    faults = [Fault("/audience/ids/3", "a"), Fault("", "b"), Fault("limit", "c")]
    made = problem.describe(InvalidRequestError("wrong", faults=faults), "ref")
    assert made["errors"] == [
        {"pointer": "/audience/ids/3", "detail": "a"},
        {"pointer": "", "detail": "b"},
        {"parameter": "limit", "detail": "c"},
    ]


def test_internal_errors_tell_nothing_but_their_reference():
    for error in (
        InternalError("the disk of db7 is full"),
        ConfigError("/etc/secret"),
        PushdError("x", extra={"y": 1}),
    ):
        made = problem.describe(error, "abc123")
        assert made["reference"] == "abc123"
        assert not {"disk", "secret", "y"} & set(json.dumps(made).split())


def test_extra_members_are_shown_but_cannot_lie():
    error = UnknownTargetsError(extra={"errors": {"unknown": [1]}, "status": 200})
    made = problem.describe(error, "ref")
    assert (made["errors"], made["status"]) == ({"unknown": [1]}, 400)


def test_waiting_is_in_whole_seconds_and_never_none():
    assert problem.headers(errors.UnavailableError(retry_after_s=0.01))["Retry-After"] == "1"
    assert problem.headers(errors.TooManyRequestsError(retry_after_s=59.1))["Retry-After"] == "60"
    assert problem.headers(errors.UnauthorizedError())["WWW-Authenticate"].startswith("Bearer")
