"""The guard: no packet to an address that is not public, whatever a tenant writes and DNS answers."""

import asyncio
import ipaddress
import socket
import ssl

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.config import TransportConfig
from pushd.config.webpush import SERVICES
from pushd.transport import guard_http
from pushd.transport.dial import Dialer, DialError
from pushd.transport.guard import ForbiddenError, Guard, HostRules, is_public, parse
from pushd.transport.resolve import Address

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAA",
        "https://web.push.apple.com/QGuQyavXutnMb",
        "https://wns2-by3p.notify.windows.com/w/?token=BQYAAAB%2f",
    ],
)
def test_w40_the_browsers_services_are_allowed(url):
    assert Guard(SERVICES).allows(parse(url))
    assert parse(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://push.apple.com/x",
        "https://a.b.push.apple.com/x",
        "https://evil.example/web.push.apple.com",
        "https://evil.example/?x=.push.apple.com",
        "https://fcm.googleapis.com:444/x",
        "https://notify.windows.com/x",
        "https://evilnotify.windows.com/x",
    ],
)
def test_w41_hosts_are_matched_label_by_label(url):
    assert not Guard(SERVICES).allows(parse(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://fcm.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "//fcm.googleapis.com/x",
        "https:fcm.googleapis.com/x",
        "https:///x",
        "https://user@fcm.googleapis.com/x",
        "https://fcm.googleapis.com@evil.example/x",
        "https://u:p@evil.example/",
        "https://fcm.googleapis.com/x#y",
        "https://fcm.googleapis.com#@evil.example/",
        "https://evil.example\\@fcm.googleapis.com/",
        "https://fcm.googleapis.com/\r\nHost: x",
        "https://fcm.googleapis.com/ x",
        "https://fcm.googleapis.com\t/x",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://1.2.3.0x4/",
        "https://example.123/",
        "https://example.0x/",
        "https://[::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:127.0.0.1]/",
        "https://exämple.com/",
        "https://-a.example/",
        "https://a..example/",
        "https://example.com./",
        "https://a_b.example/",
        "https://%6c%6fcalhost/",
        "https://fcm.googleapis.com:0/",
        "https://fcm.googleapis.com:65536/",
        "https://fcm.googleapis.com:/",
        "https://fcm.googleapis.com:４４３/",
        "https://fcm.googleapis.com:443x/",
        "https://fcm.googleapis.com/" + "x" * 2048,
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
    ],
)
def test_w42_what_is_refused_at_registration(url):
    with pytest.raises(ValueError) as error:
        parse(url)
    assert not url or url not in str(error.value)


def test_w42_a_url_has_one_form():
    assert parse("HTTPS://FCM.googleapis.COM:443/Abc?X").url == "https://fcm.googleapis.com/Abc?X"
    assert parse("https://push.example").path == "/"
    assert parse("https://push.example?a=b").path == "/?a=b"
    assert parse("https://push.example:8443/x").origin == "https://push.example:8443"
    assert parse("https://xn--exmple-cua.com/").host == "xn--exmple-cua.com"


@given(st.text(max_size=80))
def test_w41_whatever_is_parsed_has_a_plain_host(text):
    try:
        target = parse("https://" + text)
    except ValueError:
        return
    assert target.host == target.host.lower()
    assert not set(target.host) & set("@:/\\[]%#? ")
    with pytest.raises(ValueError):
        ipaddress.ip_address(target.host)


PRIVATE = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::ffff:0:10.0.0.1", "64:ff9b::a00:1"),
    *("64:ff9b::5db8:d70e", "64:ff9b:1::a00:1", "2002:a00:1::1", "2002:5db8:d70e::1", "2001::1", "2001:0:a00:1::1"),
    *("2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1"),
    *("fec0::1", "ff02::1", "100::1", "5f00::1", "2606:2800:220:1:0:5efe:a00:1", "2606:2800:220:1:200:5efe:5db8:d70e"),
    *("fe80::1%eth0", "2606:2800:220:1::1%eth0"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_w44_addresses_that_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(ForbiddenError):
        Guard(()).check(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:2800:220:1::1", "2a00:1450::1"]
)
def test_w44_public_addresses(address):
    Guard(()).check(address)


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_w44_every_form_of_a_private_address_inside_ipv6_is_refused(inside):
    number = int(inside)
    for base in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert not is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(base)) | number))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | number << 80))
    assert not is_public(ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)))


def test_what_is_no_address_is_forbidden():
    for text in ("", "localhost", "127.0.0.1.example", "1.2.3"):
        with pytest.raises(ForbiddenError):
            Guard(()).check(text)
    for peer in (None, (), "/tmp/socket", ("/tmp/socket",)):
        with pytest.raises(ForbiddenError):
            Guard(()).check_peer(peer)


def test_w40_operators_extend_the_list_for_all_or_for_one_app():
    guard = Guard(("push.example",), hosts_of_apps={"7": ("own.example:8443",)}, networks=("10.1.0.0/16",))
    assert guard.allows(parse("https://push.example/x"))
    assert not guard.allows(parse("https://own.example:8443/"))
    assert guard.allows(parse("https://own.example:8443/"), 7)
    assert not guard.allows(parse("https://own.example/"), 7)
    assert not guard.allows(parse("https://own.example:8443/"), 8)
    guard.check("10.1.2.3")
    with pytest.raises(ForbiddenError):
        guard.check("10.2.0.1")
    with pytest.raises(ForbiddenError):
        guard.check("::ffff:10.1.2.3")


def test_any_host_means_public_names_at_443_and_they_are_not_believed():
    guard = Guard(SERVICES, any_host=True)
    assert guard.allows(parse("https://ntfy.example/up"))
    assert not guard.names(parse("https://ntfy.example/up"))
    assert guard.names(parse("https://fcm.googleapis.com/x"))
    assert not guard.allows(parse("https://ntfy.example:8443/up"))
    assert not guard.allows(parse("https://localhost/up"))


@pytest.mark.parametrize("pattern", ["", "*", "*.", "a b", "https://x.example", "*x.example", "x.*.example", "x:y"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(ValueError):
        HostRules([pattern])


# -- real sockets


class Answers:
    """A resolver that gives these answers one after another, the last for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        family = {False: socket.AF_INET, True: socket.AF_INET6}
        return [Address(family[":" in each], each, port) for each in answer]


class Trap:
    """A listener that nobody may reach."""

    async def __aenter__(self):
        self.met = 0
        self.server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def _meet(self, _reader, writer):
        self.met += 1
        writer.close()

    async def __aexit__(self, *_):
        self.server.close()


def dialer(port, resolver, guard, **rest):
    quick = TransportConfig(connect_timeout_s=0.5, resolve_timeout_s=0.2, **rest)
    return Dialer("push.example", port, ssl.create_default_context(), guard.resolver(resolver), quick, guard)


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "64:ff9b::a00:1", "::ffff:127.0.0.1", "::1"])
async def test_x29_w43_a_name_that_resolves_to_a_private_address_is_not_connected_to(address):
    async with Trap() as trap:
        for answers in ([address], [PUBLIC, address]):
            with pytest.raises(DialError) as error:
                await dialer(trap.port, Answers(answers), Guard(("push.example",))).dial(None)
            assert error.value.kind == "forbidden"
            assert address not in str(error.value)
        assert not trap.met


@pytest.mark.asyncio
async def test_x29_an_answer_of_dns_that_flips_between_check_and_connect():
    async with Trap() as trap:
        guard = Guard(("push.example",))
        flipping = Answers([PUBLIC], ["127.0.0.1"])
        far = dialer(trap.port, flipping, guard)
        with pytest.raises(DialError):  # connects to what was checked, or not at all
            await far.dial(None)
        assert flipping.asked == 1
        with pytest.raises(DialError) as error:
            await far.dial(None)
        assert error.value.kind == "forbidden"
        assert not trap.met


@pytest.mark.asyncio
async def test_x29_a_resolver_that_lies_past_the_guard_meets_the_check_of_the_socket():
    async with Trap() as trap:
        guard = Guard(("push.example",))
        quick = TransportConfig(connect_timeout_s=0.5)
        unguarded = Dialer(
            "push.example", trap.port, ssl.create_default_context(), Answers(["127.0.0.1"]), quick, guard
        )
        with pytest.raises(DialError) as error:
            await unguarded.dial(None)
        assert error.value.kind == "forbidden"
        assert not trap.met


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [OSError("NXDOMAIN"), TimeoutError()])
async def test_x19_names_without_an_answer(answer):
    with pytest.raises(DialError) as error:
        await dialer(443, Answers(answer), Guard(("push.example",))).dial(None)
    assert error.value.kind == "dns"


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_w45_http_1_1_is_behind_the_same_guard(address):
    async with Trap() as trap:
        client = guard_http.session(
            Guard(("push.example",)),
            Answers([address]),
            ssl.create_default_context(),
            connections=2,
            connect_s=0.5,
            total_s=1.0,
        )
        async with client:
            for host in ("push.example", f"[{address}]" if ":" in address else address):
                with pytest.raises((aiohttp.ClientConnectionError, OSError)):
                    await client.post(f"https://{host}:{trap.port}/", data=b"x")
        assert not trap.met
