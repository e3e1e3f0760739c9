import pytest

from pushd.commands.text import check_text, text_faults
from pushd.errors import Fault, InvalidRequestError
from pushd.model.message import Message
from pushd.model.user import UserChange


def test_ordinary_text_has_no_faults():
    assert text_faults(Message(title="Hä? 你好", data={"a": [1, None, {"b": "c"}]})) == []
    check_text({"a": "b"})


def test_an_escaped_backslash_is_not_a_nul():
    assert text_faults({"path": r"C:\u0000"}) == []


def test_every_nul_is_pointed_at():
    message = Message(title="a\0", data={"b/c": ["x", {"d~": "\0"}], "\0k": 1})
    assert {fault.pointer for fault in text_faults(message)} == {"/title", "/data/b~1c/1/d~0", "/data/\0k"}


def test_check_raises_with_the_faults():
    with pytest.raises(InvalidRequestError) as caught:
        check_text(UserChange(external_id="a\0b"))
    assert caught.value.faults == (Fault("/external_id", "holds the character U+0000"),)
