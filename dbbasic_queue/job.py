"""What a job is, and every rule about its states.

pending ──claim──▶ processing ──▶ completed
   ▲                   │ ├──────▶ failed
   │ retry later,      │ │
   └── rescue, refund ─┘ │
cancelled ◀── pending    └ (attempts used up)
failed, cancelled ──retry──▶ pending
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .errors import IllegalTransition

PENDING: Final = "pending"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED)
FINISHED: Final = (COMPLETED, FAILED, CANCELLED)

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset({PROCESSING, CANCELLED}),
    PROCESSING: frozenset({COMPLETED, FAILED, PENDING}),
    COMPLETED: frozenset(),
    FAILED: frozenset({PENDING}),
    CANCELLED: frozenset({PENDING}),
}


def may(old: str, new: str) -> bool:
    """Whether a job in state `old` may enter state `new`.

    >>> may("pending", "processing"), may("completed", "pending")
    (True, False)
    """
    return new in TRANSITIONS[old]


def require(job_id: bytes, old: str, new: str) -> None:
    """Raise `IllegalTransition` unless a job may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"job {job_id.decode()} is {old}: it cannot become {new}")


class Job(NamedTuple):
    """One job, as its row says.

    `created_at` and `run_at` are Unix seconds. `run_at` is when the job is due while it is
    pending, when this attempt began while it is processing, and when it ended afterwards.
    `attempts` counts the tries begun so far, the one in hand included.
    """

    id: str
    type: str
    payload: Any
    status: str
    created_at: int
    run_at: int
    attempts: int
    error: str | None = None
    result: Any = None

    @property
    def attempt(self) -> int:
        """Which try this is, counted from 1 (the same number as `attempts`)."""
        return self.attempts

    def as_dict(self) -> dict[str, Any]:
        """The dict of nine keys that `get_job` returns.

        >>> Job("a1", "mail", {"to": "z"}, "pending", 5, 5, 0).as_dict()["status"]
        'pending'
        """
        return self._asdict()
