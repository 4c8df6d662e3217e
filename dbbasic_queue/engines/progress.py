"""How far a job is that runs: kept in its result column, until it has a result.

    {"progress": 0.4, "text": "page 4"}

In a file it takes what room the row's tail has left, one write inside one sector, without a sync:
the text is cut to that, and if the number does not fit either, nothing is written.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ..job import PROCESSING
from ..support.text import dump_json

LONGEST: Final = 200  # characters of a text


class Progress(NamedTuple):
    """How far a job is: a share from 0 to 1, and words."""

    share: float
    text: str

    def written(self, room: int | None = None) -> str:
        """The JSON of it, in at most `room` bytes; empty when there is not enough for the share.

        >>> Progress(0.4, "page 4").written(), Progress(0.4, "page 4 of 10").written(38)
        ('{"progress": 0.4, "text": "page 4"}', '{"progress": 0.4, "text": "page 4…"}')
        """
        value: dict[str, Any] = {"progress": self.share}
        text = self.text if len(self.text) <= LONGEST else self.text[: LONGEST - 1] + "…"
        json = dump_json(value | {"text": text} if text else value)
        if room is None:
            return json
        for kept in range(len(text) - 1, -1, -1):
            if len(json.encode()) <= room:
                break
            json = dump_json(value | {"text": text[:kept] + "…"} if kept else value)
        return json if len(json.encode()) <= room else ""

    def __str__(self) -> str:
        """For people.

        >>> str(Progress(0.4, "page 4")), str(Progress(1, ""))
        ('40 %, page 4', '100 %')
        """
        return f"{self.share * 100:.3g} %" + (f", {self.text}" if self.text else "")


def progress_of(status: str, result: Any) -> Progress | None:
    """What a job has said of its progress; None for one that does not run, or has said nothing.

    >>> progress_of("processing", {"progress": 0.4, "text": "page 4"})
    Progress(share=0.4, text='page 4')
    """
    if status != PROCESSING or not isinstance(result, dict):
        return None
    share, text = result.get("progress"), result.get("text", "")
    if isinstance(share, bool) or not isinstance(share, int | float) or not isinstance(text, str):
        return None
    return Progress(share, text)
