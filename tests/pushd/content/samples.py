"""Messages for tests: one of every push type, and Hypothesis strategies over the whole model."""

from hypothesis import strategies as st

from pushd.model.audience import Broadcast
from pushd.model.message import Android, Button, LiveActivity, Media, Message, PushType, Sound
from pushd.model.notification import Send

NOW = 1_700_000_000.75


def send(message: Message, **fields) -> Send:
    return Send(audience=Broadcast(), message=message, **fields)


PLAINEST = {
    PushType.ALERT: Message(body="b"),
    PushType.BACKGROUND: Message(push_type=PushType.BACKGROUND),
    PushType.VOIP: Message(push_type=PushType.VOIP, data={"call": 1}),
    PushType.COMPLICATION: Message(push_type=PushType.COMPLICATION),
    PushType.FILEPROVIDER: Message(push_type=PushType.FILEPROVIDER, data={"container-identifier": "c", "domain": "d"}),
    PushType.LOCATION: Message(push_type=PushType.LOCATION),
    PushType.LIVEACTIVITY: Message(
        push_type=PushType.LIVEACTIVITY, live_activity=LiveActivity(event="update", content_state={"s": 1})
    ),
    PushType.PUSHTOTALK: Message(push_type=PushType.PUSHTOTALK, data={"speaker": "s"}),
    PushType.CONTROLS: Message(push_type=PushType.CONTROLS),
    PushType.WIDGETS: Message(push_type=PushType.WIDGETS),
    PushType.MDM: Message(push_type=PushType.MDM, data={"mdm": "magic"}),
    PushType.EMAIL: Message(push_type=PushType.EMAIL, body="b"),
    PushType.CHANNEL: Message(
        push_type=PushType.CHANNEL, live_activity=LiveActivity(event="update", content_state={"s": 1})
    ),
}

texts = st.text(max_size=40)
links = st.sampled_from(["https://example.com/x", "http://e.org", "app:open/1", "javascript:x", "nonsense", ""])
objects = st.dictionaries(texts, st.none() | st.integers(-(2**63), 2**64 - 1) | texts, max_size=3)


def maybe(strategy):
    return st.none() | strategy


messages = st.builds(
    Message,
    title=maybe(texts),
    subtitle=maybe(texts),
    body=maybe(st.text(max_size=4096)),
    url=maybe(links),
    data=maybe(objects),
    icon=maybe(links),
    image=maybe(links),
    media=st.lists(st.builds(Media, url=links, type=maybe(texts)), max_size=2),
    buttons=st.lists(st.builds(Button, id=st.sampled_from("ab"), text=texts, url=maybe(links)), max_size=2),
    priority=st.sampled_from(["normal", "high"]),
    badge=maybe(st.integers(0, 2**31 - 1)),
    badge_increment=maybe(st.integers(-5, 5)),
    sound=maybe(texts | st.just("none") | st.builds(Sound, name=texts, critical=st.booleans())),
    category=maybe(texts),
    thread=maybe(texts),
    interruption_level=maybe(st.sampled_from(["passive", "active", "time-sensitive", "critical"])),
    relevance=maybe(st.floats(0, 1)),
    mutable_content=maybe(st.booleans()),
    content_available=maybe(st.booleans()),
    push_type=st.sampled_from([each for each in PushType if each is not PushType.EMAIL]),
    live_activity=maybe(
        st.builds(
            LiveActivity,
            event=st.sampled_from(["start", "update", "end"]),
            content_state=objects,
            attributes_type=maybe(texts),
            attributes=maybe(objects),
        )
    ),
    android=maybe(st.builds(Android, channel=maybe(texts), notification_type=maybe(texts))),
    overrides=st.dictionaries(st.sampled_from(["apns", "fcm"]), objects, max_size=2),
)
