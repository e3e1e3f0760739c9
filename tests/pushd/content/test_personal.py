"""Personal messages: what they read, their variants by locale, and payloads joined as the renderer makes them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.batch import Rendered
from pushd.content.liquid import parse, text_of
from pushd.content.personal import Script, fallbacks, needs, variants
from pushd.content.platforms import render
from pushd.content.segments import SURE_BYTES, Segments, compiled
from pushd.content.texts import link
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import GatewayName
from pushd.model.message import Android, Button, Media, Message
from pushd.model.notification import Send

NOW = 1_800_000_000.0
APP = Settings(default_title="Orchard")
RICH = Message(
    title="For {{ user.first_name | default: 'you' }}",
    body="{{ greeting }}, {{ user.first_name }}: {{ user.points }} points\n{{ user.note }}",
    url="https://shop.example/{{ user.sku }}?c={{ user.note }}",
    data={"sku": "{{ user.sku }}", "deep": {"list": ["{{ user.note }}", 1, None]}, "plain": "x"},
    image="https://img.example/a.png",
    buttons=[Button(id="a", text="Buy {{ user.sku }}", url="https://shop.example/{{ user.sku }}")],
    android=Android(click_action="open"),
    overrides={"apns": {"mine": "{{ user.note }}"}},
)


def send(message: Message, **fields) -> Send:
    return Send(audience=Broadcast(), message=message, liquid=True, **fields)


def render_one(whole: Send, gateway: GatewayName):
    return lambda message: render(
        gateway, msgspec.structs.replace(whole, message=message), APP, notification_id=7, now=NOW
    )


def joined(script: Script, segments: Segments, user: dict) -> bytes:
    """The payload of one device."""
    values = script.values(user, {}, None)
    columns = []
    for source in segments.sources:
        if source.lookup is None:
            text = script_text(source.text, values)
        else:
            value = values
            for name in source.lookup.path:
                value = value.get(name) if isinstance(value, dict) else None
            text = text_of(source.lookup, value)
        columns.append([link(text) if source.is_link else text])
    (payload,) = segments.join(columns, 1)
    return payload


def script_text(text: str, values: dict) -> str:
    return parse(text).render(values, NOW)


def test_what_is_read_is_known_by_name():
    found = needs(
        [
            "{{ user.first_name }} {{ device.locale }} {{ code }} {{ extra | default: 'x' }} {{ user_data.a }}",
            {"deep": "{% if promo %}{{ promo }}{% endif %}{{ code | upcase }}"},
        ]
    )
    assert (found.user, found.device, found.user_data) == ({"first_name"}, {"locale"}, True)
    assert (found.required, found.optional) == ({"code"}, {"extra", "promo"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ user }}", "user is read by the name"),
        ("{{ user[name] }}", "user is read by the name"),
        ("{{ device.password }}", "of a device there are"),
        ("{{ a", "not closed"),
        ("{% include 'x' %}", "include"),
        ("{{ a | unknown }}", "there is no filter unknown"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(text, said):
    with pytest.raises(InvalidRequestError) as refused:
        needs(Message(title="fine", data={"a/b": [text]}), "/message")
    (fault,) = refused.value.faults
    assert fault.pointer == "/message/data/a~1b/0"
    assert said in fault.detail


def test_too_many_pieces_are_refused():
    with pytest.raises(InvalidRequestError, match="cannot be"):
        needs(["{{ a }}" * 150, "{{ a }}" * 51])


def test_rfc4647_locales_fall_back():
    assert [*fallbacks("zh-hant-cn-x-private1")] == ["zh-hant-cn-x-private1", "zh-hant-cn", "zh-hant", "zh"]
    assert [*fallbacks("pt-br")] == ["pt-br", "pt"]
    assert [*fallbacks("")] == []


def test_variants_are_whole_messages():
    base = Message(title="Hello", body="World", data={"a": 1})
    script = Script(
        Send(
            audience=Broadcast(), message=base, locales={"pt": {"title": "Olá"}, "pt_BR": {"title": "Oi", "data": None}}
        )
    )
    said = {name: script.message(script.variant(name), {}, NOW) for name in ("", "de", "pt", "pt-pt", "pt-br")}
    assert said[""] == said["de"] == base
    assert said["pt"] == said["pt-pt"] == Message(title="Olá", body="World", data={"a": 1})
    assert said["pt-br"] == Message(title="Oi", body="World")


@pytest.mark.parametrize(
    ("locales", "pointer"),
    [
        ({"de": {"priority": "normal"}}, "/locales/de/priority"),
        ({"de": {"title": 5}}, "/locales/de"),
        ({"de-AT": {}, "de_at": {}}, "/locales/de_at"),
    ],
)
def test_variants_that_cannot_be_are_refused(locales, pointer):
    with pytest.raises(InvalidRequestError) as refused:
        variants(Message(title="a"), locales)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


def test_a_users_own_data_stand_before_the_tags_of_all():
    script = Script(
        send(
            Message(body="{{ code }} {{ user_data.code }}"),
            content_tags={"code": "all"},
            user_data={"ada": {"code": 1}},
        )
    )
    assert script.message(0, script.values({}, {}, "ada"), NOW).body == "1 1"
    assert script.message(0, script.values({}, {}, "bob"), NOW).body == "all "
    assert script.message(0, script.values({}, {}, None), NOW).body == "all "


def test_links_stay_links():
    script = Script(send(RICH))
    message = script.message(0, script.values({"sku": " a b\n", "note": "x\ty"}, {}, None), NOW)
    assert message.url == "https://shop.example/%20a%20b%0A?c=x%09y"


AWKWARD = st.dictionaries(
    st.sampled_from(["first_name", "points", "sku", "note"]),
    st.one_of(
        st.text(max_size=20, alphabet=st.characters(exclude_categories=["Cs"])),
        st.text(alphabet='"\\\n\t{}|;<>', max_size=10),
        st.integers(-(2**53), 2**53),
        st.booleans(),
        st.lists(st.text(max_size=5, alphabet='ab"\\'), max_size=3),
        st.none(),
    ),
)


@pytest.mark.parametrize("gateway", SURE_BYTES)
@given(user=AWKWARD)
@settings(max_examples=60)
def test_what_is_joined_is_what_the_renderer_makes(gateway, user):
    whole = send(RICH, content_tags={"greeting": 'Good "day"'})
    script = Script(whole)
    segments = compiled(script, 0, render_one(whole, gateway), gateway)
    assert segments is not None
    message = script.message(0, script.values(user, {}, None), NOW)
    made = render_one(whole, gateway)(message)
    assert isinstance(made, Rendered)
    payload = joined(script, segments, user)
    hollow = [group for group in segments.hollow if not any(joined_text(script, segments, at, user) for at in group)]
    assert payload == made.payload or hollow


def joined_text(script, segments, at, user) -> str:
    source = segments.sources[at]
    if source.lookup is None:
        return script_text(source.text, script.values(user, {}, None))
    value = script.values(user, {}, None)
    for name in source.lookup.path:
        value = value.get(name) if isinstance(value, dict) else None
    return text_of(source.lookup, value)


@pytest.mark.parametrize("gateway", SURE_BYTES)
def test_general_liquid_is_a_gap_of_its_own(gateway):
    whole = send(
        Message(
            title="{{ user.a | upcase }}",
            body="{% if user.b %}yes{% else %}no{% endif %}",
            data={"x": "{{ user.a | upcase }}"},
        )
    )
    script = Script(whole)
    segments = compiled(script, 0, render_one(whole, gateway), gateway)
    assert segments is not None
    assert all(source.lookup is None for source in segments.sources)
    user = {"a": 'a"b', "b": 1}
    assert (
        joined(script, segments, user)
        == render_one(whole, gateway)(script.message(0, script.values(user, {}, None), NOW)).payload
    )


@pytest.mark.parametrize(
    "message",
    [
        Message(title="a", url="{{ user.link }}"),
        Message(title="a", url="https://{{ user.host }}/"),
        Message(title="a", image="{{ user.scheme }}://img.example/a.png"),
        Message(title="a", media=[Media(url="javascript:{{ user.a }}")]),
        Message(title="{{ user.a", body="b"),
    ],
)
def test_links_that_a_value_could_make_another_are_not_compiled(message):
    whole = send(message)
    script = Script.__new__(Script)
    script.messages, script.badge, script.send = [message], None, whole
    assert compiled(script, 0, render_one(whole, GatewayName.APNS), GatewayName.APNS) is None


def test_mails_and_safari_pushes_are_not_compiled():
    whole = send(RICH)
    for gateway in (GatewayName.EMAIL, GatewayName.SAFARI):
        assert compiled(Script(whole), 0, render_one(whole, gateway), gateway) is None
