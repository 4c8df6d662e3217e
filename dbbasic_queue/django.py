"""Django's tasks in this queue: `BACKEND` is `dbbasic_queue.django.QueueBackend`.

A worker runs them with `handlers = "dbbasic_queue.django:HANDLERS"`.
"""

from .integrations.django.backend import QueueBackend
from .integrations.django.handlers import HANDLERS

__all__ = ["HANDLERS", "QueueBackend"]
