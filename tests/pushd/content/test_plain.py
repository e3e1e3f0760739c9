"""Plain alerts: whatever is called plain breaks no rule and fits every platform there is."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.batch import Rendered
from pushd.content.check import validate
from pushd.content.plain import PLAIN_BYTES_MAX, is_plain
from pushd.content.platforms import RENDERERS, SHAPES, render
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import ID_MAX, GatewayName, Shape
from pushd.model.message import Android, Button, Message, PushType, Sound
from pushd.model.notification import Send
from pushd.outcome import NOT_SUPPORTED

TEXT = st.none() | st.text('"\\\n\x01aé😀', max_size=200).filter(lambda text: "\0" not in text)
DATA = st.none() | st.dictionaries(
    st.text('a"\\', max_size=3),
    st.recursive(
        st.integers(-(2**63), 2**64 - 1) | st.text('"\\', max_size=99), lambda inner: st.lists(inner, max_size=3)
    ),
    max_size=4,
)

URLS = st.none() | st.text('a/%&?é😀"\\<', max_size=900).map("https://{}".format)
PAYLOADS = st.none() | st.builds(lambda aps, more: {**(more or {}), "aps": aps or {}}, DATA, DATA)


def text_of(send: Send) -> bytes:
    return msgspec.json.encode(send)


@settings(max_examples=300)
@given(
    TEXT,
    TEXT,
    TEXT,
    DATA,
    st.none() | st.text("😀", max_size=60),
    st.none() | st.integers(0, 2**31 - 1),
    PAYLOADS,
    URLS,
)
def test_what_is_plain_is_valid_and_fits_everywhere(title, subtitle, body, data, default_title, badge, payload, url):
    message = Message(title=title, subtitle=subtitle, body=body, data=data, badge=badge, url=url, priority="normal")
    if payload is not None:
        message = msgspec.structs.replace(message, overrides={"apns": payload})
    send = Send(audience=Broadcast(), message=message)
    app = Settings(default_title=default_title, icon=default_title)
    if is_plain(send, text_of(send), app):
        validate(send, app)
        for gateway, shape in [(gateway, Shape.OWN) for gateway in RENDERERS] + list(SHAPES):
            made = render(gateway, send, app, notification_id=ID_MAX, now=9_999_999_999.0, shape=shape)
            # Safari alone shows nothing for a text that is empty: it needs a title and a body.
            silent = gateway is GatewayName.SAFARI and not (title or subtitle or body)
            assert made is NOT_SUPPORTED if silent else isinstance(made, Rendered), gateway


def test_what_has_rules_of_its_own_is_not_plain():
    def plain(**fields):
        send = Send(audience=Broadcast(), message=Message(**({"title": "t"} | fields)))
        return is_plain(send, text_of(send), Settings())

    assert plain()
    assert plain(data={"n": 1}, sound="chime", badge=0)
    assert plain(url="https://a.example/?b=c#d")
    assert plain(overrides={"apns": {"aps": {"alert": "x"}, "n": [1]}})
    for fields in (
        {"url": "http://a.example/"},
        {"url": "myapp:open"},
        {"url": "https://a.example/ b"},
        {"icon": "https://a.example/"},
        {"image": "javascript:1"},
        {"buttons": [Button(id="1", text="ok")]},
        {"badge_increment": 1},
        {"android": Android(channel="a", notification_type="b")},
        {"overrides": {"apns": {"aps": 1}}},
        {"overrides": {"apns": {"aps": {}, "n": 2**64}}},
        {"overrides": {"apns": {}, "email": {"text": 1}}},
        {"sound": Sound(volume=0.5)},
        {"push_type": PushType.VOIP},
        {"title": None},
        {"title": None, "data": {"a": 1}},
        {"data": {"n": 2**64}},
        {"body": "x" * PLAIN_BYTES_MAX},
    ):
        assert not plain(**fields), fields
    keyed = Send(audience=Broadcast(), message=Message(title="t"), collapse_id="é" * 64)
    assert not is_plain(keyed, text_of(keyed), Settings())
