"""One choke point: whoever opens connections stands here; what a tenant names is reached through the guard alone."""

import ast
from pathlib import Path

import pushd

ROOT = Path(pushd.__file__).parent
ELSEWHERE = {"simulator", "cli"}
"""The far sides of tests and demos, and commands that talk to the operator's own daemon."""

DIALS = {
    *("ClientSession", "TCPConnector", "UnixConnector", "request", "urlopen", "SMTP", "Dialer"),
    *("create_connection", "open_connection", "create_datagram_endpoint", "sock_connect", "connect_ex"),
}
"""Names by which a connection to somewhere is made."""

WHO_DIALS = {
    "transport/guard_http.py": {"ClientSession", "TCPConnector"},  # behind the guard: the only one of its kind
    "transport/dial.py": {"create_connection"},  # asks its guard, where it was given one
    "gateways/webpush_way.py": {"Dialer"},  # given the guard
    "gateways/apns.py": {"Dialer"},  # hosts of the operator's configuration, here and below
    "gateways/apns_channels.py": {"Dialer"},
    "gateways/fcm.py": {"Dialer"},
    "gateways/hms.py": {"ClientSession", "TCPConnector"},
    "gateways/email_relay.py": {"SMTP"},
    "credentials/oauth_endpoint.py": {"ClientSession", "TCPConnector"},
}


def calls(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in DIALS:
                yield name, node


def dialling():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in ELSEWHERE and (made := list(calls(path.read_text()))):
            found[str(place)] = made
    return found


def test_w43_nobody_else_opens_connections():
    assert {place: {name for name, _ in made} for place, made in dialling().items()} == WHO_DIALS


def test_w43_the_way_to_a_push_service_is_guarded_whole():
    """Over HTTP/2 the dialer has the guard, and the resolver before it; over HTTP/1.1 there is the guarded session."""
    path = ROOT / "gateways" / "webpush_way.py"
    ((_, dialer),) = calls(path.read_text())
    arguments = [ast.unparse(each) for each in dialer.args]
    assert arguments[-1] == "reach.guard"
    assert "reach.guard.resolver(reach.resolver)" in arguments
    assert "guard_http.session(" in path.read_text()


def test_w45_no_client_follows_redirects_reads_proxies_of_the_environment_or_decompresses():
    for place in WHO_DIALS:
        source = (ROOT / place).read_text()
        for name, node in calls(source):
            if name == "ClientSession":
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                assert given.get("trust_env", "False") == "False"
                assert given["auto_decompress"] == "False"
                assert given["cookie_jar"] == "aiohttp.DummyCookieJar()"
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] not in ELSEWHERE and "session.post(" in path.read_text():
            assert path.read_text().count("session.post(") == path.read_text().count("allow_redirects=False"), path
