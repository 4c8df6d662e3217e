"""`/admin/queue` of dbbasic-web 0.1: the page, as `GET` and `POST` of its router."""

from __future__ import annotations

from ..cli.family_web import GET, POST

__all__ = ["GET", "POST"]
