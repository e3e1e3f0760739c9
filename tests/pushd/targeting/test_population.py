"""The pieces that both kinds of images are applied with."""

import numpy as np

from pushd.model.rows import Postings
from pushd.targeting.population import Population, difference
from pushd.targeting.postings import groups


def test_groups_name_each_key_with_its_rows():
    assert [(key, list(rows)) for key, rows in groups(np.array([5, 2, 5, 2, 9]))] == [
        (2, [1, 3]),
        (5, [0, 2]),
        (9, [4]),
    ]
    assert list(groups(np.array([4, 4]))) == [(4, slice(None))]
    assert list(groups(np.zeros(0, np.int32))) == []


def pairs(*rows):
    return np.array([row for row, _ in rows], np.intp), np.array([number for _, number in rows], np.uint32)


def listed(found):
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


def test_the_difference_of_pairs():
    gone, come = difference(pairs((0, 1), (0, 2), (3, 1)), pairs((3, 1), (0, 2), (0, 70_000)))
    assert (listed(gone), listed(come)) == ([(0, 1)], [(0, 70_000)])
    gone, come = difference(pairs((0, 5), (1, 7), (1, 3)), pairs((1, 7), (0, 32_767), (1, 7), (0, 32_767)))
    assert (listed(gone), listed(come)) == ([(0, 5), (1, 3)], [(0, 32_767)])
    gone, come = difference(pairs((70_000, 1), (70_000, 2)), pairs((70_000, 2), (70_001, 2)))
    assert (listed(gone), listed(come)) == ([(70_000, 1)], [(70_001, 2)])
    gone, come = difference(pairs(), pairs((1, 1)))
    assert (listed(gone), listed(come)) == ([], [(1, 1)])


def test_tags_are_numbered_within_their_app():
    population = Population()
    tags = Postings(
        offsets=np.array([0, 2, 2, 3, 5], np.int32),
        ids=np.array([10, 20, 30, 20, 40], np.int32),
        names={10: "a", 20: "b", 30: "a", 40: "c"},
    )
    rows = np.arange(4)
    positions, numbers = population.numbers_of_rows(tags, rows, np.array([1, 1, 2, 1], np.int32))
    assert positions.tolist() == [0, 0, 2, 3, 3]
    assert numbers.tolist() == [1, 2, 1, 2, 3]
    again = population.numbers_of_rows(tags, rows[2:], np.array([2, 1], np.int32))
    assert (again[0].tolist(), again[1].tolist()) == ([0, 1, 1], [1, 2, 3])
    assert population.numbers(population.tenant(2), [30], tags.names) == [1]
    assert len(population.tenant(2).tags.listed) == 1
