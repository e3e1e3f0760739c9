"""Web Push subscriptions as clients register them."""

import msgspec
import pytest

from protocols import aes128gcm, jwt, vapid, webpush
from pushd.commands.registration import check
from pushd.commands.subscriptions import PushRules
from pushd.config.webpush import SERVICES
from pushd.model.device import Kind, Registration, Subscription, SubscriptionKeys
from pushd.transport.guard import Guard

P256DH = jwt.encode(aes128gcm.new_pair().public).decode()
AUTH = jwt.encode(bytes(16)).decode()
SERVER_KEY = aes128gcm.new_pair().public
ENDPOINT = "https://fcm.googleapis.com/fcm/send/abc:def?x=1"
RULES = PushRules(Guard(SERVICES, hosts_of_apps={"2": ("own.example",)}), 1, lambda _: "current_key")


def subscription(endpoint=ENDPOINT, p256dh=P256DH, auth=AUTH, key=None):
    return Subscription(endpoint=endpoint, keys=SubscriptionKeys(p256dh=p256dh, auth=auth), application_server_key=key)


def register(rules=RULES, **fields):
    registration = Registration(install_id="i", kind=Kind.WEBPUSH, **fields)
    checked, bad = check([registration], rules)
    return checked[0], [fault.pointer for fault in bad.get(0, [])]


def test_a_browsers_own_json_is_taken_in_both_ways():
    keys = {"p256dh": P256DH, "auth": AUTH}
    browsers = {"endpoint": ENDPOINT, "expirationTime": None, "keys": keys, "later": 1}
    text = msgspec.json.encode(browsers).decode()
    whole = msgspec.json.encode({"install_id": "i", "kind": "webpush", "subscription": browsers})
    registration = msgspec.json.decode(whole, type=Registration)
    stored, faults = register(subscription=registration.subscription)
    assert not faults
    assert stored.subscription is None
    assert webpush.parse_address(stored.token.encode()) == (
        P256DH.encode(),
        AUTH.encode(),
        b"current_key",
        ENDPOINT.encode(),
    )
    assert register(token=text)[0].token == stored.token
    assert register(token=stored.token)[0].token == stored.token


def test_w25_a_subscription_remembers_the_key_it_was_made_with():
    key = jwt.encode(SERVER_KEY).decode()
    stored, _ = register(subscription=subscription(key=key))
    assert webpush.parse_address(stored.token.encode()).key.decode() == vapid.fingerprint(SERVER_KEY)
    assert register(token=stored.token)[0].token == stored.token
    keyless = PushRules(RULES.guard, 1, lambda _: "")
    stored, _ = register(keyless, subscription=subscription())
    assert webpush.parse_address(stored.token.encode()).key == webpush.KEY_UNKNOWN


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"token": "abc"}, "/token"),
        ({"token": "{}"}, "/token"),
        ({"token": "{"}, "/token"),
        ({"token": "x", "subscription": subscription()}, "/token"),
        ({"subscription": subscription("http://fcm.googleapis.com/x")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://169.254.169.254/latest")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://evil.example/x")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://own.example/x")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://fcm.googleapis.com@evil.example/x")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://permanently-removed.invalid/x")}, "/subscription/endpoint"),
        ({"subscription": subscription("https://android.googleapis.com/x")}, "/subscription/endpoint"),
        ({"subscription": subscription(p256dh="AAAA")}, "/subscription/keys"),
        ({"subscription": subscription(p256dh=jwt.encode(b"\x04" + bytes(64)).decode())}, "/subscription/keys"),
        ({"subscription": subscription(auth="AAAA")}, "/subscription/keys"),
        ({"subscription": subscription(key="AAAA")}, "/subscription/application_server_key"),
        ({"subscription": subscription(key="*")}, "/subscription/application_server_key"),
    ],
)
def test_w06_w42_each_fault_points_at_its_field(fields, pointer):
    stored, pointers = register(**fields)
    assert pointers == [pointer]
    assert stored.token == fields.get("token")


def test_w40_an_app_may_have_hosts_of_its_own():
    rules = PushRules(RULES.guard, 2, RULES.current_key)
    assert register(rules, subscription=subscription("https://own.example/x"))[1] == []


def test_other_kinds_have_no_subscription():
    registration = Registration(install_id="i", kind=Kind.FCM, subscription=subscription())
    _, bad = check([registration], RULES)
    assert [fault.pointer for fault in bad[0]] == ["/subscription"]


def test_an_install_without_an_address_is_taken():
    assert register() == (Registration(install_id="i", kind=Kind.WEBPUSH), [])


def test_g09_faults_quote_neither_endpoint_nor_keys():
    registration = Registration(
        install_id="i", kind=Kind.WEBPUSH, subscription=subscription("https://evil.example/secret", "secret-key")
    )
    _, bad = check([registration], RULES)
    assert bad[0]
    assert not any("secret" in str(fault.detail) for fault in bad[0])
