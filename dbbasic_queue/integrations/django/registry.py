"""Which tasks a Django project has: found by their module paths, and listed.

A type of job is a text that another process has written. So a module is imported for it only where
it belongs to the project, below an installed app or beside the settings, and what is found there
counts only if it is a task, which `subprocess.check_output` is not.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from .api import base


def task_named(path: str) -> Any:
    """The task with this module path, such as `shop.tasks.send`; None if there is none."""
    module_name, _, name = path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None:
        if not _is_own(module_name):
            return None
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            return None
    found = getattr(module, name, None)
    return found if isinstance(found, base.Task) and found.module_path == path else None


def all_tasks() -> list[str]:
    """The paths of the tasks in the apps' modules named `tasks`, and in all that is imported."""
    autodiscover_modules("tasks")
    found = set()
    for name, module in list(sys.modules.items()):
        if _is_own(name):
            found |= {
                task.module_path
                for task in list(vars(module).values())
                if isinstance(task, base.Task)
            }
    return sorted(path for path in found if task_named(path) is not None)


def _is_own(module: str) -> bool:
    """Whether a module belongs to the project."""
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    own = {config.name for config in apps.get_app_configs()}
    own.add(os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0])
    return any(name and f"{module}.".startswith(f"{name}.") for name in own)
