"""Ids that sort by time."""

from __future__ import annotations

import itertools
import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import in_child

from dbbasic_queue.support import ids

MOMENTS = st.floats(ids.FIRST / 1000, (ids.SPAN - 1) / 1000)


@given(moment=MOMENTS)
def test_an_id_says_when_it_was_made(moment: float) -> None:
    """To the millisecond, from 2009 until May 2059."""
    job_id = ids.new_id(moment)
    assert re.fullmatch("[0-9a-z]{16}", job_id)
    assert ids.made_at(job_id.encode()) == int(moment * 1000)


@given(moments=st.tuples(MOMENTS, MOMENTS))
def test_the_later_id_is_the_greater_one(moments: tuple[float, float]) -> None:
    """As text: a table that `sort` has sorted is in the order in which its jobs were made."""
    earlier, later = sorted(moments)
    if int(earlier * 1000) < int(later * 1000):
        assert ids.new_id(earlier) < ids.new_id(later)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_batch_has_one_beginning_and_ascends(count: int) -> None:
    """Its ids are of one millisecond, each is greater than the one before it."""
    batch = ids.new_ids(count, 1800000000.5)
    assert len(batch) == count
    assert batch == sorted(set(batch))
    assert {job_id[:8] for job_id in batch} <= {ids.time_part(1800000000500)}


def test_a_batch_that_drew_an_id_twice_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a batch no id stands twice, whatever chance says."""
    drawn = [bytes(16), bytes(range(16))]
    monkeypatch.setattr(os, "urandom", lambda length: drawn.pop(0))
    assert len(set(ids.new_ids(2, 1.8e9))) == 2
    assert not drawn


def test_ids_drawn_ahead_are_not_given_out_by_two_processes() -> None:
    """A forked child draws anew, so that it does not make the ids that its parent makes."""
    ids.new_id(1.8e9)
    theirs = in_child(lambda: [ids.new_id(1.8e9) for _ in range(100)])
    assert not {*theirs} & {ids.new_id(1.8e9) for _ in range(100)}


def test_ids_of_one_millisecond_mostly_ascend() -> None:
    """So that a table lies in the order of its ids, but for one place in some hundred."""
    made = [ids.new_id(1.8e9) for _ in range(1000)]
    assert sum(a > b for a, b in itertools.pairwise(made)) < 10


@pytest.mark.parametrize(
    "other", ["5f2c9b1e8a7d4c30", "ffffffffffffffff", "welcome-17", "MYX1HTC0K3V9Q7AA", "mail", ""]
)
def test_other_ids_have_no_time(other: str) -> None:
    """Not those of 1.0.0, nor of 2.0.0 as it was, nor people's keys."""
    assert ids.made_at(other.encode()) is None


@pytest.mark.parametrize("moment", [0, -5.5, ids.SPAN / 1000 + 5, 10.0**11])
def test_a_clock_far_off_makes_ids_all_the_same(moment: float) -> None:
    """Before 2009 and from May 2059 on an id is as long as ever, and the full search finds it."""
    assert re.fullmatch("[0-9a-z]{16}", ids.new_id(moment))
    assert len(set(ids.new_ids(50, moment))) == 50


def test_the_beginning_is_that_of_now() -> None:
    """Ids that are made now begin with the time of now."""
    before = int(time.time() * 1000)
    made = ids.made_at(ids.new_id(time.time()).encode())
    assert made is not None
    assert before <= made <= int(time.time() * 1000)
