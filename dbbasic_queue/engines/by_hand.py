"""The verbs for one job by its id, which each engine has by what it does to many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..job import FAILED, Job

if TYPE_CHECKING:
    from .choice import Choice
    from .verbs import Verb


class ByHand:
    """What a person does with one job. What it imports, a worker does not need."""

    def act(self, verb: Verb, choice: Choice, *, dry_run: bool = False) -> list[Job]:
        """Do something to the jobs that are meant: see `Engine.act`."""
        raise NotImplementedError

    def cancel(self, job_id: str, note: str = "Cancelled by user", mark: str = "") -> bool:
        """Cancel a pending job, or with a `mark` one that runs: see `Engine.cancel`."""
        from .choice import Choice
        from .verbs import cancel

        return bool(self.act(cancel(note, mark), Choice(ids=(job_id,))))

    def retry(self, job_id: str) -> bool:
        """Put a job back, due now: see `Engine.retry`."""
        from .choice import Choice
        from .verbs import RETRY

        return bool(self.act(RETRY, Choice(ids=(job_id,))))

    def retry_failed(self, job_type: str | None = None) -> list[str]:
        """Put all failed jobs back, or those of one type; returns their ids."""
        from .choice import choose
        from .verbs import RETRY

        return [job.id for job in self.act(RETRY, choose(FAILED, job_type))]
