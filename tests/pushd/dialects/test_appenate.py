"""Appenate's bodies, whatever they are: fields, or an error that says so."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.dialects import appenate
from pushd.errors import InvalidRequestError, PushdError

XMLNS = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.just({})


@given(st.binary(max_size=400), st.booleans())
def test_any_octets_are_fields_or_refused(raw, is_json):
    try:
        fields = appenate._parse(raw, is_json)
    except InvalidRequestError:
        return
    assert set(fields) <= set(appenate._NAMES.values())


@given(st.text(max_size=200))
def test_any_text_within_xml_is_fields_or_refused(text):
    with suppress(InvalidRequestError):
        appenate._parse(f"<Push {XMLNS}><Title>{text}</Title></Push>".encode("utf-8", "surrogatepass"), False)


@given(st.dictionaries(st.sampled_from(sorted(appenate._NAMES.values())), values))
def test_any_values_are_a_send_or_refused(fields):
    try:
        leaves = appenate._identifiers(fields)
        send = appenate._send(fields, next(iter(leaves.values()), None))
    except InvalidRequestError:
        return
    assert send.message.title
    assert send.message.body
    assert send.ttl_s is None or send.ttl_s > 0


@pytest.mark.parametrize("dtd", ["<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY b "c">]>'])
def test_a_dtd_is_refused_wherever_it_leads(dtd):
    with pytest.raises(PushdError):
        appenate._parse(f"{dtd}<a {XMLNS}/>".encode(), False)


def test_the_namespace_may_stand_beside_others_on_the_root_only():
    good = f'<p:Push xmlns:p="urn:x" {XMLNS}><p:Title>A</p:Title></p:Push>'.encode()
    assert appenate._parse(good, False) == {"Title": "A"}
    with pytest.raises(PushdError):
        appenate._parse(f"<Push><Title {XMLNS}>A</Title></Push>".encode(), False)
