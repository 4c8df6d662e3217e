"""What man pages have of the commands' own argparse parsers: groups, usage, epilog."""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

SOURCE = Path(__file__).resolve().parents[2]
_HEADING = re.compile(r"(examples|exit codes|exit status)[^\n]*:")
WIDE = "1000"  # so many columns, in which no usage line is broken


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    return table


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """The titles of a parser's groups of options, each with the first flags of its options."""
    for group in parser._action_groups:
        flags = [a.option_strings[0] for a in group._group_actions if a.option_strings]
        if flags:
            yield group.title or "", flags


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage on one line, without `usage:`."""
    with mock.patch.dict(os.environ, {"COLUMNS": WIDE}):
        return " ".join(parser.format_usage().removeprefix("usage:").split())


def epilog(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The parts of an epilog by their headings; what stands before the first is under ""."""
    parts: dict[str, list[str]] = {"": []}
    heading = ""
    for line in (parser.epilog or "").splitlines():
        if found := _HEADING.fullmatch(line):
            heading = "exit status" if "exit" in found[1] else found[1]
            parts[heading] = []
            continue
        parts[heading].append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in parts.items()}
