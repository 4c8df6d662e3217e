"""A task outside of `tasks.py`, and what is not a task."""

import subprocess

from .tasks import task

calls: list[str] = []


@task
def send(to: str) -> str:
    """Be a task that no autodiscovery imports."""
    return f"sent to {to}"


def not_a_task(*args: object) -> None:
    """Be called by no job."""
    calls.append("not_a_task")


check_output = subprocess.check_output
alias = send
