import pytest

from pushd.commands.registration import check, check_attributes
from pushd.commands.subscriptions import PushRules
from pushd.config.webpush import SERVICES
from pushd.model.device import Environment, Kind, Registration
from pushd.transport.guard import Guard

GOOD = "Ab" * 32
RULES = PushRules(Guard(SERVICES), 1, lambda _: "")


def pointers(registration: Registration) -> list[str]:
    _, bad = check([registration], RULES)
    return [fault.pointer for fault in bad.get(0, [])]


def test_hexadecimal_tokens_are_stored_in_lower_case():
    checked, bad = check([Registration(install_id="a", bundle="b.c", token=GOOD)], RULES)
    assert not bad
    assert checked[0].token == GOOD.lower()
    assert checked[0].install_id == "a"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"token": "xyz", "bundle": "b"}, "/token"),
        ({"token": "abc", "bundle": "b"}, "/token"),
        ({"token": "ab" * 600, "bundle": "b"}, "/token"),
        ({"token": GOOD}, "/bundle"),
        ({"token": GOOD, "bundle": ""}, "/bundle"),
        ({"token": GOOD, "bundle": "a b"}, "/bundle"),
        ({"token": GOOD, "bundle": "a\r\nx"}, "/bundle"),
        ({"kind": Kind.FCM, "token": "a b"}, "/token"),
        ({"kind": Kind.FCM, "token": "é"}, "/token"),
        ({"kind": Kind.EMAIL, "token": "nobody"}, "/token"),
        ({"locale": "!"}, "/locale"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"tags": ["ok", "a\0"]}, "/tags/1"),
        ({"user_id": "\0"}, "/user_id"),
    ],
)
def test_each_fault_points_at_its_field(fields, pointer):
    assert pointers(Registration(install_id="i", **fields)) == [pointer]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"bundle": ""},
        {"token": GOOD, "bundle": "org.example.App-2", "kind": Kind.APNS_VOIP, "environment": Environment.SANDBOX},
        {"token": "ab" * 200, "bundle": "a", "kind": Kind.APNS_LIVEACTIVITY},
        {"token": "cGFz:APA91b_x-y", "kind": Kind.FCM},
        {"token": "ada@example.com", "kind": Kind.EMAIL},
        {"locale": "zh-Hant-TW", "time_zone": "America/Argentina/Ushuaia"},
        {"locale": "pt_BR", "time_zone": None, "platform": None, "user_id": None},
        {"tags": []},
    ],
)
def test_good_registrations_pass(fields):
    assert pointers(Registration(install_id="i", **fields)) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"install_id": "channel:Ab+/", "token": "Ab+/", "bundle": "b"}, []),
        ({"install_id": "phone", "token": "Ab+/", "bundle": "b"}, ["/install_id"]),
        ({"install_id": "channel:no id", "token": "no id", "bundle": "b"}, ["/token"]),
        ({"install_id": "channel:Ab+/", "token": "Ab+/"}, ["/bundle"]),
    ],
)
def test_a38_a_channel_is_the_only_device_of_its_install(fields, expected):
    registration = Registration(kind=Kind.APNS_CHANNEL, **fields)
    assert pointers(registration) == expected
    assert check([registration], RULES)[0][0].token == fields["token"], "base64 has both cases"


def test_bad_rows_do_not_touch_their_neighbours():
    rows = [Registration(install_id=str(n), bundle="b", token=GOOD if n % 2 else "no") for n in range(6)]
    checked, bad = check(rows, RULES)
    assert sorted(bad) == [0, 2, 4]
    assert [checked[n].token for n in (1, 3, 5)] == [GOOD.lower()] * 3


def test_a_token_is_never_in_a_fault():
    _, bad = check([Registration(install_id="i", bundle="b", token="secret-token")], RULES)
    assert "secret-token" not in str(bad)


def test_attributes_alone():
    assert [fault.pointer for fault in check_attributes(Registration(install_id="i", time_zone="x"))] == ["/time_zone"]
