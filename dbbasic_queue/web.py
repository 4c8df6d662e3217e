"""`dbbasic_queue.web:app`: the page as a WSGI callable, for gunicorn, uwsgi and their like."""

from __future__ import annotations

from .cli.serve import app

__all__ = ["app"]
