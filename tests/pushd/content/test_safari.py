"""Messages as Safari website pushes: title and body always, an action, url-args that its site's format takes."""

import orjson
import pytest

from pushd.content import safari
from pushd.content.check import validate
from pushd.content.kinds import kinds
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.device import GatewayName, Kind
from pushd.model.message import Button, Message, PushType

from .samples import NOW, send

FORMAT = "https://example.com/%@"
SERVED = (GatewayName.SAFARI,)


def rendered(message, app=None, formats=(FORMAT,), **fields):
    wanted = send(message, **fields)
    validate(wanted, app or Settings(), SERVED, formats)
    return safari.render(message, wanted, app or Settings(), notification_id=7, now=NOW)


def aps(message, app=None, **rest):
    return orjson.loads(rendered(message, app, **rest).payload)["aps"]


def faults(message, formats=(FORMAT,)):
    with pytest.raises(InvalidRequestError) as caught:
        validate(send(message), Settings(), SERVED, formats)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_s03_title_and_body_are_always_there_and_nothing_else_is():
    orchard = Settings(default_title="Orchard")
    assert aps(Message(title="T", body="B")) == {"alert": {"title": "T", "body": "B"}, "url-args": []}
    assert aps(Message(body="B"), orchard)["alert"] == {"title": "Orchard", "body": "B"}
    assert aps(Message(body="B"))["alert"] == {"title": "B", "body": "B"}
    assert aps(Message(title="T"))["alert"] == {"title": "T", "body": "T"}
    assert aps(Message(title="T", subtitle="S", body="B"))["alert"] == {"title": "T", "body": "S\nB"}


def test_s03_the_first_button_is_the_action():
    buttons = [Button(id="a", text="View"), Button(id="b", text="Later")]
    assert aps(Message(body="B", buttons=buttons))["alert"]["action"] == "View"
    assert "action" not in aps(Message(body="B"))["alert"]


def test_s04_no_badge_no_sound_no_wake_up_and_no_data():
    message = Message(body="B", badge=3, sound="chime.caf", content_available=True, category="c", data={"a": 1})
    assert aps(message) == {"alert": {"title": "B", "body": "B"}, "url-args": []}
    assert rendered(Message(badge=3)) is None
    assert Kind.SAFARI not in kinds(PushType.BACKGROUND)


def test_s02_headers():
    headers = dict(rendered(Message(body="B", priority="normal")).headers)
    assert (headers["apns-push-type"], headers["apns-priority"]) == ("alert", "10")
    assert rendered(Message(body="B"), collapse_id="offer").collapse_id == "offer"
    assert rendered(Message(body="B"), ttl_s=0).expires_at == 0
    assert rendered(Message(body="B"), ttl_s=60).expires_at == int(NOW) + 60


def test_s03_a_link_that_the_sites_format_cannot_say_is_refused():
    rendered(Message(body="B", url="https://example.com/pears"))
    assert "https://example.com/%@" in faults(Message(body="B", url="https://example.org/pears"))["/message/url"]
    assert list(faults(Message(body="B", url="app:open/7"))) == ["/message/url"]
    rendered(Message(body="B", url="https://example.org/pears"), formats=(FORMAT, "https://example.org/%@"))
    rendered(Message(body="B", url="https://example.org/pears"), formats=())
    rendered(Message(body="B", url="https://example.org/pears"), formats=("",))


def test_s03_url_args_are_counted_against_the_stored_format():
    def own(*arguments):
        return Message(body="B", url="app:open/7", overrides={"safari": {"aps": {"url-args": list(arguments)}}})

    assert aps(own("pears"))["url-args"] == ["pears"]
    at = "/message/overrides/safari/aps/url-args"
    assert "has 2 where the site's format takes 1" in faults(own("pears", "x"))[at]
    assert list(faults(own("pears", 1))) == [at]
    rendered(own("pears", "x"), formats=(FORMAT, FORMAT + "/%@"))
    rendered(own("pears", "x"), formats=())


@pytest.mark.parametrize(
    ("override", "pointer"),
    [
        ({"aps": None}, "/aps"),
        ({"aps": {"alert": "text"}}, "/aps/alert"),
        ({"aps": {"alert": None}}, "/aps/alert"),
        ({"aps": {"alert": {"title": None}}}, "/aps/alert/title"),
        ({"aps": {"alert": {"body": ""}}}, "/aps/alert/body"),
        ({"aps": {"alert": {"body": 5}}}, "/aps/alert/body"),
        ({"aps": {"alert": {"action": 5}}}, "/aps/alert/action"),
        ({"aps": {"url-args": None}}, "/aps/url-args"),
        ({"aps": {"url-args": "pears"}}, "/aps/url-args"),
    ],
)
def test_s03_an_override_cannot_make_a_push_that_safari_drops(override, pointer):
    assert list(faults(Message(body="B", overrides={"safari": override}))) == ["/message/overrides/safari" + pointer]


def test_s03_an_override_is_merged():
    changed = {"safari": {"aps": {"alert": {"title": "For Safari", "action": None}}, "more": 1}}
    body = orjson.loads(rendered(Message(title="T", body="B", overrides=changed)).payload)
    assert body == {"aps": {"alert": {"title": "For Safari", "body": "B"}, "url-args": []}, "more": 1}


def test_s02_a_payload_over_4096_bytes_names_limit_excess_and_field():
    def largest(letters, url=None):
        return Message(title="T", body="x" * letters, url=url)

    size = len(orjson.dumps({"aps": {"alert": {"title": "T", "body": ""}, "url-args": [""] * 16}}))
    rendered(largest(4096 - size))
    told = faults(largest(4096 - size + 3))
    assert list(told) == ["/message/body"]
    assert "safari payload" in told["/message/body"]
    assert "3 over the limit of 4096" in told["/message/body"]
    url = "https://example.com/" + "p" * 1000
    assert f"{len(url)} over the limit of 4096" in faults(largest(4096 - size, url))["/message/body"]
    rendered(largest(4096 - size - len(url), url))
