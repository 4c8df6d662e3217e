"""The slots of recurring jobs and of pruning, where a server gives each to one of its machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..engines.interface import Order
from ..job import check_payload, check_type
from ..queue import Queue
from ..schedule.recurring import SlotJob, slot, slot_key

if TYPE_CHECKING:
    from ..config.sections import Config

PRUNE = "[prune]"  # in place of a recurring job's name, which has no brackets


class ServerSlots:
    """The slots that a queue's server keeps; a `SlotServer`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def slots(self) -> Mapping[str, int]:
        """The last slot of each key that was dealt with."""
        return self._queue.engine.slots()

    def claim(self, key: str, slot: int, job: SlotJob | None) -> bool:
        """Mark a slot and add its job, both or neither; False if that was done before."""
        order = None
        if job is not None:
            payload = check_payload(job.payload, self._queue.max_payload)
            order = Order(job.id, check_type(job.type), payload, job.due, keyed=True)
        return self._queue.engine.claim_slot(key, slot, order)


def server_slots(queue: Queue) -> ServerSlots | None:
    """Return what keeps the slots of a queue on a server; None for one in a file."""
    return ServerSlots(queue) if "slots" in queue.engine.can else None


def claim_prune(queue: Queue, config: Config) -> bool:
    """Whether this machine is the one to prune now, of all that are told to by the schedule."""
    slots = server_slots(queue)
    if slots is None or config.prune is None:
        return True
    schedule = config.prune.schedule
    last = slot(schedule, queue.now())
    return slots.claim(slot_key(config.name, PRUNE, schedule), last, None)
