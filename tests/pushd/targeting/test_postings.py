"""Tags and the lists of them that rows carry."""

import numpy as np
import pytest

from pushd.targeting.postings import AppTags, Carried


def test_names_match_in_any_case_and_keep_the_first_spelling():
    tags = AppTags()
    first = tags.learn("Straße")
    assert tags.learn("STRASSE") == first
    assert tags.find("strasse").name == "Straße"
    assert tags.find("street") is None
    assert tags.learn("street") == first + 1


def test_devices_by_tag_one_and_many():
    tags = AppTags()
    a, b = tags.learn("a"), tags.learn("b")
    tags.add("own", 5, [a, b])
    tags.add_many("own", np.array([1, 2, 2], np.uint32), np.array([a, a, b], np.uint32))
    tags.add_many("by_user", np.array([9], np.uint32), np.array([b], np.uint32))
    assert (list(tags.find("a").own), list(tags.find("b").own)) == ([1, 2, 5], [2, 5])
    assert list(tags.find("b").by_user) == [9]
    tags.discard("own", 5, [a])
    tags.discard_many("own", np.array([2, 2], np.uint32), np.array([b, a], np.uint32))
    assert (list(tags.find("a").own), list(tags.find("b").own)) == ([1], [5])
    tags.add_many("own", np.zeros(0, np.uint32), np.zeros(0, np.uint32))


LISTS = [
    [],
    [1],
    [256],
    [65_535],
    [65_536],
    [3, 70_000],
    [1, 2, 3],
    list(range(1, 1_001)),
    list(range(65_000, 66_000)),
    # 1,000 tags and 1,000 channels, in either width.
    list(range(1, 2_001)),
    list(range(64_000, 66_000)),
    [512, 256],
]


@pytest.mark.parametrize("numbers", LISTS)
def test_a_list_comes_back_and_its_place_is_reused(numbers):
    carried = Carried()
    place = carried.put(numbers)
    assert [number for number in carried.get(place) if number] == numbers
    carried.free(place)
    assert carried.put(numbers) == place


def test_lists_of_every_sort_come_back_as_pairs():
    carried = Carried()
    flat = np.array([number for numbers in LISTS for number in numbers], np.uint32)
    places = carried.put_many(flat, np.array(list(map(len, LISTS))))
    assert [[number for number in carried.get(place) if number] for place in places.tolist()] == LISTS
    positions, numbers = carried.get_many(places)
    assert sorted(zip(positions.tolist(), numbers.tolist(), strict=True)) == sorted(
        (at, number) for at, listed in enumerate(LISTS) for number in listed
    )
    size = carried.nbytes
    carried.free_many(places)
    assert set(carried.put_many(flat, np.array(list(map(len, LISTS)))).tolist()) == set(places.tolist())
    assert carried.nbytes - size < 20 * 8 * 1024
