"""Threshold ranges as monitoring plugins write them: `10`, `10:`, `~:10`, `10:20`, `@10:20`.

The rules are those of the Monitoring Plugins Development Guidelines, "Threshold and Ranges".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# No exponent, no "inf": the guidelines know neither. `.5` and `5.` are numbers to other plugins.
_NUMBER = r"-?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})"
_RANGE = re.compile(rf"(@)?(?:(~|{_NUMBER})?:)?({_NUMBER})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `start` to `end`, both included, and whether to alert inside or outside.

    >>> Range.parse("10:20").alerts(21), Range.parse("@10:20").alerts(20)
    (True, True)
    """

    start: float = 0
    end: float = math.inf
    inside: bool = False

    @classmethod
    def parse(cls, text: str) -> Range:
        """Return the range that `text` names.

        | text     | alerts                       |
        |----------|------------------------------|
        | `10`     | below 0 or above 10          |
        | `10:`    | below 10                     |
        | `~:10`   | above 10                     |
        | `10:20`  | below 10 or above 20         |
        | `@10:20` | from 10 to 20, both included |
        | `~:`     | never                        |

        Raises `ValueError`, whose message says what was expected.

        >>> Range.parse("~:10")
        Range(start=-inf, end=10, inside=False)
        """
        match = _RANGE.fullmatch(text)
        if match is None or not text.strip("@"):
            raise ValueError(
                f"{text!r:.60} is not a range; write it like 10, 10:, ~:10, 10:20 or @10:20"
            )
        start = -math.inf if match[2] == "~" else _number(match[2], 0)
        end = _number(match[3], math.inf)
        if start > end:
            raise ValueError(f"{text!r:.60} is not a range: its start is above its end")
        return cls(start, end, match[1] is not None)

    def alerts(self, value: float) -> bool:
        """Say whether this number is a reason to alert.

        >>> [Range.parse("10").alerts(value) for value in (-1, 0, 10, 11)]
        [True, False, False, True]
        """
        return (self.start <= value <= self.end) == self.inside

    def __str__(self) -> str:
        """Return the shortest text that `parse` reads back.

        >>> str(Range.parse("0:10")), str(Range.parse("~:10.50"))
        ('10', '~:10.5')
        """
        end = "" if self.end == math.inf else f"{self.end:.15g}"
        if self.start == -math.inf:
            start = "~:"
        elif self.start == 0 and end:
            start = ""
        else:
            start = f"{self.start:.15g}:"
        return f"{'@' if self.inside else ''}{start}{end}"


def _number(text: str | None, default: float) -> float:
    if not text:
        return default
    return float(text) if "." in text else int(text)
