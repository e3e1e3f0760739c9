import pytest
from multidict import CIMultiDict

from pushd.errors import ConfigError
from pushd.web.proxies import Client, Proxies

TRUSTED = Proxies(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.5", "1.2.3.4", "203.0.113.5"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.2.3.4, 192.0.2.7", "1.2.3.4"),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("10.0.0.1", "1.2.3.4:5678", "1.2.3.4"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "1.2.3.4, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_the_right_most_untrusted_hop_is_the_client(peer, forwarded, expected):
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert TRUSTED.client(peer, False, CIMultiDict(headers)) == Client(expected, False)


def test_repeated_headers_are_one_list():
    headers = CIMultiDict([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "1.2.3.4, 10.0.0.9")])
    assert TRUSTED.client("10.0.0.1", False, headers).address == "1.2.3.4"


def test_the_scheme_is_believed_of_proxies_only():
    headers = CIMultiDict({"X-Forwarded-Proto": "https"})
    assert TRUSTED.client("10.0.0.1", False, headers).secure
    assert not TRUSTED.client("1.2.3.4", False, headers).secure
    assert not TRUSTED.client("10.0.0.1", True, CIMultiDict({"X-Forwarded-Proto": "http"})).secure
    assert TRUSTED.client("10.0.0.1", True, CIMultiDict()).secure


def test_a_wrong_network_is_a_configuration_error():
    with pytest.raises(ConfigError, match="trusted_proxies"):
        Proxies(["10.0.0.0/33"])
