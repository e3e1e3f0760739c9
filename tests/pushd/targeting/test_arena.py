"""Byte strings at 32-bit places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.targeting.arena import TEXT_WIDTHS, Arena

TEXTS = st.binary(max_size=70).map(lambda raw: raw.replace(b"\0", b"z"))


def test_strings_of_every_width_come_back():
    arena = Arena()
    texts = [b"x" * length for width in TEXT_WIDTHS for length in (width - 1, width)]
    places = [arena.put(text) for text in texts]
    assert [arena.get(place) for place in places] == texts
    assert len(set(places)) == len(places)
    assert arena.get_many(np.array(places, np.uint32)).tolist() == texts


def test_the_empty_string_has_no_place():
    arena = Arena()
    assert arena.put(b"") == 0
    assert arena.get(0) == b""
    arena.free(0)
    assert arena.put_many(np.array([b"", b"a", b""])).tolist()[::2] == [0, 0]
    assert arena.get_many(np.zeros(3, np.uint32)).tolist() == [b""] * 3
    assert arena.text_bytes == 4


def test_freed_places_are_taken_again():
    arena = Arena()
    places = arena.put_many(np.array([b"t" * 64] * 100))
    size = arena.nbytes
    arena.free_many(places[10:60])
    again = arena.put_many(np.array([b"u" * 64] * 60))
    assert set(places[10:60].tolist()) < set(again.tolist())
    assert arena.text_bytes == 110 * 64
    assert arena.nbytes - size <= 8 * 1024
    assert arena.get(int(places[0])) == b"t" * 64


def test_replacing_keeps_the_place_within_a_width():
    arena = Arena()
    place = arena.put(b"a" * 60)
    assert arena.replace(place, b"b" * 64) == place
    assert arena.get(place) == b"b" * 64
    longer = arena.replace(place, b"c" * 65)
    assert arena.get(longer) == b"c" * 65
    assert arena.put(b"d" * 64) == place
    assert arena.replace(longer, b"") == 0


@pytest.mark.parametrize("kind", ["put_many", "put_list"])
def test_a_column_of_mixed_lengths_comes_back_in_order(kind):
    arena = Arena()
    texts = [b"a" * 200, b"", b"b", b"c" * 64, b"d" * 63, b"e" * 3]
    places = arena.put_list(texts) if kind == "put_list" else arena.put_many(np.array(texts))
    assert arena.get_many(places).tolist() == texts
    assert arena.get_many(places[::-1]).tolist() == texts[::-1]
    assert len(arena.get_many(places[:0])) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put_many", "put_list", "replace", "free", "free_many"]),
            st.lists(TEXTS, max_size=6),
            st.integers(0, 50),
        )
    )
)
@settings(max_examples=100)
def test_any_uses_keep_every_string_that_was_not_given_up(steps):
    arena, held = Arena(), {}
    for verb, texts, pick in steps:
        keys = sorted(held)
        if verb == "put":
            held.update((place, text) for text in texts if (place := arena.put(text)))
        elif verb in ("put_many", "put_list") and texts:
            places = arena.put_many(np.array(texts, np.bytes_)) if verb == "put_many" else arena.put_list(texts)
            held.update((place, text) for place, text in zip(places.tolist(), texts, strict=True) if place)
        elif keys and verb == "replace" and texts:
            place = keys[pick % len(keys)]
            del held[place]
            if now := arena.replace(place, texts[0]):
                held[now] = texts[0]
        elif keys and verb == "free":
            place = keys[pick % len(keys)]
            del held[place]
            arena.free(place)
        elif keys and verb == "free_many":
            gone = keys[: pick % len(keys)]
            for place in gone:
                del held[place]
            arena.free_many(np.array([0, *gone], np.uint32))
    assert {place: arena.get(place) for place in held} == held
    places = np.array(sorted(held), np.uint32)
    assert arena.get_many(places).tolist() == [held[place] for place in places.tolist()]


def test_what_was_given_up_is_in_memory_no_more():
    arena = Arena()
    places = [arena.put(f"name of somebody, number {number}".encode()) for number in range(8)]
    arena.free(places[0])
    arena.free_many(np.array(places[1:6], np.uint32))
    arena.replace(places[6], b"another name, of another width, which is a good deal longer than the one before it")
    held = b"".join(slab.rows.data.tobytes() for slab in arena._slabs)
    assert [number for number in range(8) if f"number {number}".encode() in held] == [7]
    assert arena.get(places[7]) == b"name of somebody, number 7"
