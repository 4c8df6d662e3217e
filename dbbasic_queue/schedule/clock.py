"""The time zone in which cron and systemd run the machine's schedules."""

from __future__ import annotations

import os
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

LOCAL_TIME = Path("/etc/localtime")


def machine_zone() -> tzinfo | None:
    """Return the machine's time zone where `$TZ` hides it, None where local time is the machine's.

    `$TZ` may be set for the handlers, or in the shell of whoever asks; cron and systemd were
    started without it and go by `/etc/localtime`, localtime(5).
    """
    if "TZ" not in os.environ or not LOCAL_TIME.exists():
        return None
    with LOCAL_TIME.open("rb") as stream:
        return ZoneInfo.from_file(stream)
