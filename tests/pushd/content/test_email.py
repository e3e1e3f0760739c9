"""Messages as mails: subject, text, HTML; and nothing that is not asked for is ever mailed."""

import orjson
import pytest

from pushd.content import email
from pushd.content.check import validate
from pushd.content.kinds import kinds
from pushd.errors import InvalidRequestError
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import Kind
from pushd.model.message import Message, PushType
from pushd.model.notification import Send


def sent(**fields):
    return Send(audience=Broadcast(), message=Message(push_type=PushType.EMAIL, **fields))


def render(settings=None, **fields):
    send = sent(**fields)
    validate(send, settings or Settings())
    rendered = email.render(send.message, send, settings or Settings(), notification_id=7, now=0.0)
    return orjson.loads(rendered.payload)


def faults(**fields):
    with pytest.raises(InvalidRequestError) as caught:
        validate(sent(**fields), Settings())
    return [fault.pointer for fault in caught.value.faults]


def test_the_subject_is_the_overrides_else_the_title_else_the_apps():
    orchard = Settings(default_title="Orchard")
    assert render(body="a", title="t", overrides={"email": {"subject": "s"}})["subject"] == "s"
    assert render(orchard, body="a", title="t")["subject"] == "t"
    assert render(orchard, body="a")["subject"] == "Orchard"
    assert render(body="a")["subject"] == ""


def test_a_subject_is_one_line():
    assert (
        render(body="a", title="Apples\r\nBcc: eve@example.org\0\tnow")["subject"] == "Apples Bcc: eve@example.org now"
    )


def test_text_link_and_html():
    assert render(body="Apples", url="https://example.com")["text"] == "Apples\n\nhttps://example.com"
    mail = render(body="Apples", overrides={"email": {"html": "<b>Apples</b>", "text": "Apples!"}})
    assert (mail["text"], mail["html"]) == ("Apples!", "<b>Apples</b>")


def test_a_mail_is_asked_for_and_reaches_mailboxes_only():
    assert kinds(PushType.EMAIL) == {Kind.EMAIL}
    assert all(Kind.EMAIL not in kinds(each) for each in PushType if each is not PushType.EMAIL)


def test_what_a_mail_cannot_say_is_refused():
    assert faults(title="a") == ["/message/body"]
    assert faults(body="a", badge=1) == ["/message/badge"]
    assert faults(body="a", overrides={"email": {"bcc": "eve@example.org"}}) == ["/message/overrides/email/bcc"]
    assert faults(body="a", overrides={"email": {"html": ["x"]}}) == ["/message/overrides/email/html"]


def test_a_mail_too_large_names_its_field():
    assert faults(body="a", overrides={"email": {"html": "x" * email.SIZE_MAX}}) == ["/message/overrides/email"]
