"""Jobs that have failed, grouped by how."""

from __future__ import annotations

import pytest

from dbbasic_queue import Job
from dbbasic_queue.engines.choice import matches
from dbbasic_queue.engines.failures import glob_of, group
from dbbasic_queue.support.child import call


def job(job_id: str, error: str, status: str = "failed", run_at: int = 9) -> Job:
    return Job(job_id, "mail", {}, status, 5, run_at, 1, error)


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("E: no user 17", "E: no user 204", "E: no user …"),
        ("KeyError: 'to'", "KeyError: 'from'", "KeyError: …"),
        ('E: no "a b" here', 'E: no "c" here', "E: no … here"),
        ("E: 10.0.0.5:80 is away", "E: 10.0.0.17:8080 is away", "E: … is away"),
        ("E: job 5f2c9b1e8a7d4c30", "E: job 0a2c9b1e8a7d4c31", "E: job …"),
        ("E: can't be 5", "E: can't be 6", "E: can't be …"),
        ("E: [Errno 2] *?", "E: [Errno 3] *?", "E: [Errno …] *?"),
        ("E: x\\n  jobs.py:7 in f", "E: x\\n  jobs.py:8 in g", "E: x"),
        ("Http2Error: 5", "Http2Error: 6", "Http2Error: …"),
        ("Timeout", "Timeout", "Timeout"),
    ],
)
def test_what_differs_in_numbers_ids_and_quotes_is_one(one: str, other: str, shown: str) -> None:
    """The glob of both matches them and no other error."""
    (found,) = group([job("a1", one), job("b2", other)])
    assert (found.number, found.error) == (2, shown)
    for error in (one, other):
        assert matches(error.partition("\\n")[0], found.glob)
    assert not matches(f"{shown} and more: x", found.glob) or found.glob.endswith("*")
    assert len(group([job("a1", one), job("b2", "Other: no")])) == 2


def test_most_come_first_with_their_times() -> None:
    """How many, the first and the last that failed, and which wait; what never failed does not
    count."""
    jobs = [
        job("a1", "E: rare", run_at=50),
        job("b1", "E: often 1", run_at=20),
        job("b2", "E: often 2", run_at=40),
        job("b3", "E: often 3", "pending", run_at=90),
        job("c1", "E: again", "pending", run_at=80),
        job("d1", "", "pending"),
        job("e1", "Cancelled by user", "cancelled"),
    ]
    often, rare, again = group(jobs)
    assert often[3:] == (3, 1, 20, 40, 90, "b2")
    assert rare[3:] == (1, 0, 50, 50, None, "a1")
    assert again[3:] == (1, 1, None, None, 80, "c1")


def test_a_long_word_costs_no_more_than_its_length() -> None:
    """An error of a million letters is grouped at once: by its square it would take an hour."""
    error = "ValueError: " + "x" * 1_000_000

    assert call(lambda: glob_of(error), 60) == error
