"""`[types]`: how the jobs of a type are treated."""

from __future__ import annotations

from dataclasses import dataclass

from . import values
from .reader import key


@dataclass(frozen=True)
class TypeConfig:
    """One of `[types]`: of a type, or of all that a glob such as `mail.*` matches."""

    redact: tuple[str, ...] = key(
        values.words,
        about="keys of the payload whose values no command prints, unless by --reveal",
        example=["token"],
        otherwise="none",
        value=(),
    )
