"""The slots of recurring jobs: each is had by one asker, of however many hosts.

The mark of the last slot and the slot's job are written in one transaction that watches the marks.
A mark is never later than the time at which it is made; one that is ahead of the server's clock was
made while that was wrong, and the one before it counts instead.
"""

from __future__ import annotations

from typing import Any, Final

from ..interface import Order
from .adding import Adding
from .link import Link
from .records import Records
from .transitions import new_call

SMALL_STEP: Final = 120  # seconds by which a clock is put back now and then


def claim(
    link: Link, records: Records, adding: Adding, key: str, slot: int, order: Order | None
) -> bool:
    """Mark a slot and add its job, unless it or a later one was marked: see `Engine.claim_slot`."""
    watched = [records.slots, records.moved] + (
        [records.key(order.job_id)] if order is not None else []
    )
    call = new_call()

    def change(pipe: Any) -> bool:
        now = int(link.now())
        mark = (pipe.hget(records.slots, key) or b"").decode().split()
        if mark[2:] == [call]:
            return True  # done; the answer was lost
        last = _last(mark, now)
        if last is not None and last >= slot:
            return False
        adding.require_open(pipe.get(records.moved))
        known = order is not None and pipe.exists(records.key(order.job_id))
        pipe.multi()
        pipe.hset(records.slots, key, f"{slot} {last or 0} {call}")
        if order is not None and not known:
            adding.name_types(pipe, {order.job_type})
            adding.write_order(pipe, order, now)
            pipe.publish(records.wake, "")
        return True

    return link.transact(watched, change)


def _last(mark: list[str], now: int) -> int | None:
    """The last slot that counts, of a mark: the slot, the one before, the call; None without."""
    slots = [int(slot) for slot in mark[:2]]
    return next((slot for slot in slots if 0 < slot <= now + SMALL_STEP), None)


def read(link: Link, records: Records) -> dict[str, int]:
    """The last slot claimed, by key."""
    now = int(link.now())
    marks = link.run(lambda client: client.hgetall(records.slots))
    found = {key.decode(): _last(mark.decode().split(), now) for key, mark in marks.items()}
    return {key: slot for key, slot in found.items() if slot is not None}
