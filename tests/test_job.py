"""The states of a job, and what may follow what."""

from __future__ import annotations

import itertools

import pytest

from dbbasic_queue import IllegalTransition, Job
from dbbasic_queue.job import FINISHED, STATUSES, TRANSITIONS, may, require
from dbbasic_queue.table.line import COLUMNS

LEGAL = {
    ("pending", "processing"),
    ("pending", "cancelled"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "pending"),
    ("failed", "pending"),
    ("cancelled", "pending"),
}
PAIRS = list(itertools.product(STATUSES, STATUSES))


def job(**changes: object) -> Job:
    return Job("a1", "mail", {"to": "z"}, "pending", 5, 6, 2)._replace(**changes)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_only_the_listed_transitions_are_allowed(old: str, new: str) -> None:
    """Of the 25 pairs of states, the seven of the diagram are allowed and no other."""
    assert may(old, new) is ((old, new) in LEGAL)


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair not in LEGAL])
def test_an_illegal_transition_raises_and_says_which(old: str, new: str) -> None:
    """The error names the job, its state, and the state it may not enter."""
    with pytest.raises(IllegalTransition, match=f"job a1 is {old}: it cannot become {new}"):
        require(b"a1", old, new)


@pytest.mark.parametrize(("old", "new"), sorted(LEGAL))
def test_a_legal_transition_passes(old: str, new: str) -> None:
    """`require` lets every transition of the diagram pass."""
    require(b"a1", old, new)


def test_the_table_of_transitions_covers_every_state() -> None:
    """A state that is missing from the table, or unknown in it, would be a KeyError at work."""
    assert set(TRANSITIONS) == set(STATUSES)
    assert set().union(*TRANSITIONS.values()) <= set(STATUSES)


def test_completed_is_the_end() -> None:
    """What is done is never done again: no transition leads out of completed."""
    assert TRANSITIONS["completed"] == frozenset()


def test_unfinished_states_are_never_called_finished() -> None:
    """Pruning goes by FINISHED: a pending or processing job must never be in it."""
    assert set(FINISHED) == {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("status", ["", "PENDING", "running", None])
def test_an_unknown_state_is_no_state(status: object) -> None:
    """A state that does not exist is a mistake of the caller's, never silently allowed."""
    with pytest.raises(KeyError):
        may(status, "pending")  # type: ignore[arg-type]
    assert not may("pending", status)  # type: ignore[arg-type]


def test_a_job_as_a_dict_has_the_nine_columns_in_their_order() -> None:
    """`as_dict` is what `get_job` returns: the nine columns of the file and nothing else."""
    assert tuple(job().as_dict()) == COLUMNS


def test_attempt_is_the_number_of_tries_begun() -> None:
    """`attempt`, counted from 1, is the column `attempts`, which counts the try in hand."""
    assert job(attempts=1).attempt == 1
    assert job(attempts=7).attempt == 7


def test_a_job_cannot_be_changed() -> None:
    """A handler that is given the job cannot change what the queue knows of it."""
    with pytest.raises(AttributeError):
        job().status = "completed"  # type: ignore[misc]
