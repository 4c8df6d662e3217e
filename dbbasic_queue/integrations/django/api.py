"""Where Django's tasks are: `django.tasks` since Django 6, the package django-tasks before.

The two differ in the names of their exceptions, and where the modules are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _found() -> str:
    """The package of Django's tasks; raises `ImportError`, which says what to install."""
    for name in ("django.tasks", "django_tasks"):
        try:
            return import_module(name).__name__
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError(
        "dbbasic_queue.django needs Django 6, or Django 5.2 with the package django-tasks:"
        " pip install 'dbbasic-queue[django]'"
    )


_name = _found()
tasks: Any = import_module(_name)
base: Any = import_module(f"{_name}.base")
backends: Any = import_module(f"{_name}.backends.base")
signals: Any = import_module(f"{_name}.signals")
exceptions: Any = import_module(f"{_name}.exceptions")

InvalidTask: Any = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
TaskResultDoesNotExist: Any = exceptions.TaskResultDoesNotExist
Status: Any = base.TaskResultStatus
normalize_json: Any = base.normalize_json
