"""The order of what is due, where priorities count: as by a search of all there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.engines.tsv import lanes
from dbbasic_queue.engines.tsv.lanes import Lanes

TYPES = "abcdefg"
PRIORITY = {name: number % 3 for number, name in enumerate(TYPES)}
STEPS = st.lists(
    st.tuples(st.sampled_from(TYPES), st.integers(1, 50)) | st.sets(st.sampled_from(TYPES)),
    max_size=80,
)


@given(STEPS)
def test_the_first_of_the_highest_priority_that_is_open_comes_next(
    steps: list[tuple[str, int] | set[str]],
) -> None:
    """Whatever was put in, taken out and put back before, and whichever types are closed."""
    known = Lanes(PRIORITY.__getitem__)
    there: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, tuple):
            name, number = step
            there.append((name, number * len(TYPES) + TYPES.index(name)))  # no two types alike
            known.add(*there[-1])
        else:
            closed = frozenset(step)
            waiting = [each for each in there if each[0] not in closed]
            first = min(waiting, key=lambda each: (-PRIORITY[each[0]], each[1]), default=None)
            found = known.pop((lambda name, no=closed: name not in no) if closed else None)
            assert found == (first and first[1])
            if first is not None:
                there.remove(first)
        assert sorted(known.entries()) == sorted(entry for _, entry in there)
        assert set(known.types()) == {name for name, _ in there}


def test_a_type_that_is_put_back_for_ever_costs_no_memory() -> None:
    """As one at its limit is each second."""
    known = Lanes(PRIORITY.__getitem__)
    for name in TYPES:
        known.add(name, 1000)
    for number in range(1000):
        known.add("a", number)
        assert known.pop(lambda name: name == "a") == number
    assert sum(map(len, known._ranks.values())) <= 2 * len(TYPES) + lanes._SOME + 1


def test_heads_that_say_nothing_leave_the_other_priorities_alone() -> None:
    """A lower priority does not come first where a higher one has many such."""
    known = Lanes({"high": 1, "low": 0}.__getitem__)
    known.add("low", 1)
    for entry in range(1000, 500, -1):  # each to the front of its lane
        known.add("high", entry)
    assert [known.pop() for _ in range(500)] == list(range(501, 1001))
    assert known.pop() == 1
