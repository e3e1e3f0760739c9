import pytest

from pushd.errors import MethodNotAllowedError, NotFoundError
from pushd.web.router import Router


async def one(_): ...


async def two(_): ...


@pytest.fixture
def router():
    made = Router()
    made.add("GET", "/devices", one)
    made.add("POST", "/devices", two)
    made.add("GET", "/devices/{device_id}", one)
    made.add("POST", "/devices/bulk", two)
    made.add("GET", "/devices/{device_id}/history", one)
    made.add("GET", "/users/{user_id}/devices/{device_id}", two)
    return made


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "values"),
    [
        ("GET", "/devices", one, ()),
        ("HEAD", "/devices", one, ()),
        ("POST", "/devices", two, ()),
        ("GET", "/devices/7", one, ("7",)),
        ("POST", "/devices/bulk", two, ()),
        ("GET", "/devices/a%2Fb", one, ("a%2Fb",)),
        ("GET", "/devices/bulk/history", one, ("bulk",)),
        ("GET", "/users/u/devices/7", two, ("u", "7")),
    ],
)
def test_paths_lead_to_endpoints(router, method, path, endpoint, values):
    route = router.find(method, path)
    assert (route.endpoint, route.values) == (endpoint, values)


@pytest.mark.parametrize("path", ["", "/", "/device", "/devices/", "//devices", "/devices/7/", "/users/u", "/x" * 5000])
def test_other_paths_lead_nowhere(router, path):
    with pytest.raises(NotFoundError):
        router.find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/devices", "GET, HEAD, POST"), ("GET", "/devices/bulk", "POST"), ("BREW", "/devices/7", "GET, HEAD")],
)
def test_other_methods_are_told_what_is_allowed(router, method, path, allowed):
    with pytest.raises(MethodNotAllowedError) as caught:
        router.find(method, path)
    assert caught.value.extra == {"allow": allowed}


def test_paths_with_parameters_are_brief_only_where_they_recur():
    router = Router()
    router.add("POST", "/{app}/send", one, brief=True, recurs=True)
    router.add("GET", "/{app}/sends/{id}", two, brief=True)
    router.add("POST", "/send", two, brief=True)
    assert router.is_brief("POST", "/a/send")
    assert router.is_brief("POST", "/send")
    for method, path in (("GET", "/a/send"), ("GET", "/a/sends/1"), ("POST", "/a/b"), ("POST", "//send")):
        assert not router.is_brief(method, path)


def test_routes_are_said_once(router):
    with pytest.raises(AssertionError):
        router.add("GET", "/devices/{id}", one)
    assert ("GET", "/devices/{device_id}") in router.templates
