"""SMTP on paper: which addresses may stand in commands and headers, and what replies mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import smtp
from protocols.smtp import REASONS, Stage, Verdict, lookup


@pytest.mark.parametrize(
    "text", ["ada@example.org", "a.b+c@x", "o'neil@sub.example.co", "!#$%&*/=?^_`{|}~-@e.x", "1@2"]
)
def test_addresses(text):
    assert smtp.check_address(text) == text
    assert smtp.is_address(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@x",
        "ada@",
        ".a@x",
        "a.@x",
        "a..b@x",
        "a b@x",
        "a@x y",
        "a@-x",
        "a@x-",
        "a@x..y",
        '"a"@x',
        "a@[127.0.0.1]",
        "a>,<b@x",
        "a@x>",
        "a@x\r\nBcc: b@x",
        "a@x\n",
        "a\0@x",
        "ä@x",
        "a@ä",
        "a,b@x",
        "a" * 65 + "@x",
        "a@" + "x." * 130 + "x",
    ],
)
def test_what_could_say_more_than_one_address_is_none(text):
    with pytest.raises(ValueError) as caught:
        smtp.check_address(text)
    assert not text or text not in str(caught.value) or len(text) < 4
    assert not smtp.is_address(text.encode())


@given(st.text(max_size=30))
def test_no_address_breaks_a_line_or_a_path(text):
    if smtp.is_address(text.encode("utf-8", "surrogatepass")):
        assert not set(text) & set('\r\n<>(),;: \t\\"[]')


@pytest.mark.parametrize(
    ("stage", "code", "text", "name"),
    [
        (Stage.DATA, 250, "2.0.0 Queued", "accepted_by_relay"),
        (Stage.RCPT, 250, "", "reply_out_of_order"),
        (Stage.RCPT, 550, "5.1.1 No such user", "mailbox_unknown"),
        (Stage.RCPT, 551, "5.1.6 Moved", "mailbox_moved"),
        (Stage.RCPT, 556, "5.1.10 Null MX", "domain_takes_no_mail"),
        (Stage.RCPT, 550, "No such user", "mailbox_refused"),
        (Stage.RCPT, 550, "5.1.11 x", "mailbox_refused"),
        (Stage.RCPT, 550, "5.7.1 Relaying denied", "refused_by_policy"),
        (Stage.RCPT, 450, "5.1.1 of another class", "mailbox_busy"),
        (Stage.DATA, 550, "5.1.1 too late to end an address", "mail_refused"),
        (Stage.MAIL, 550, "5.1.1 about the sender", "sender_refused"),
        (Stage.RCPT, 552, "5.2.2 Over quota", "mailbox_full"),
        (Stage.DATA, 552, "5.3.4 Too big", "mail_too_large"),
        (Stage.DATA, 554, "5.7.1 Spam", "refused_by_policy"),
        (Stage.RCPT, 450, "4.2.0 Greylisted", "mailbox_busy"),
        (Stage.RCPT, 451, "4.7.1 Slow down", "relay_throttles"),
        (Stage.RCPT, 452, "4.5.3 Too many recipients", "relay_throttles"),
        (Stage.MAIL, 451, "4.3.0 Later", "relay_busy"),
        (Stage.MAIL, 421, "4.3.2 Closing", "relay_closes"),
        (Stage.LOGIN, 535, "5.7.8 Bad", "relay_refuses_login"),
        (Stage.MAIL, 530, "5.7.0 Login first", "relay_refuses_login"),
        (Stage.LOGIN, 554, "No service", "relay_refuses_service"),
        (Stage.LOGIN, 454, "4.7.0 Later", "relay_throttles"),
        (Stage.DATA, 354, "", "reply_out_of_order"),
        (Stage.DATA, -1, "", "reply_out_of_order"),
    ],
)
def test_replies(stage, code, text, name):
    assert REASONS[lookup(stage, code, text)].name == name


@given(st.sampled_from([each for each in Stage if each is not Stage.RCPT]), st.integers(-1, 999), st.text(max_size=20))
def test_g04_only_a_reply_to_rcpt_ends_an_address(stage, code, text):
    assert REASONS[lookup(stage, code, text)].verdict is not Verdict.ADDRESS_DEAD


@given(st.integers(-1, 999), st.text(max_size=20))
def test_g04_only_exact_codes_end_an_address(code, text):
    if REASONS[lookup(Stage.RCPT, code, text)].verdict is Verdict.ADDRESS_DEAD:
        assert text.split()[0] in {"5.1.1", "5.1.6", "5.1.10"}
