"""The page of fields says what the code does, and leaves no field out."""

import msgspec

from pushd.model.message import Android, Message
from tests import fields


def test_the_page_is_what_the_code_says():
    assert not fields.differences(), "python -m tests.fields writes it anew"


def test_every_field_has_a_line():
    names = {field.name for field in msgspec.structs.fields(Message)} - {"android"}
    names |= {f"android.{field.name}" for field in msgspec.structs.fields(Android)}
    assert names <= fields.covered()
