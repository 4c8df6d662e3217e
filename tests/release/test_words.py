"""Plain English: phrases that have to be read twice are nowhere in the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("dbbasic_queue", "tests", "docs", "packaging", "cron", "systemd", "views", "examples")
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
)
KINDS = {".py", ".md", ".j2", ".in", ".toml", ".conf", ".cfg", ".yml", ".json", ".txt", ""}
ELSEWHERE = ("by_2_0_0", "__pycache__")  # files as 2.0.0 wrote them; what is compiled
PHRASES = re.compile(
    r"(?<!there )(?<!There )\bis no (?!longer\b|more\b)[a-z]+|\bmay not [a-z]+"
    r"|\b[Ww]hoever\b|\b[Ss]omebody\b|\bso often a\b|\bso long a\b"
    # Not the user of that name, whom tests look for.
    r"|\bNobody\b|\b(?:up|holds|keeps|leaves|for) nobody\b"
    r"|\bnobody (?:else|waits?|ever|can |will|sees|takes|knows|has (?!no\b))"
)


def files() -> Iterator[Path]:
    """All text that people read."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and path.suffix in KINDS and not {*ELSEWHERE} & {*path.parts}:
                yield path
    yield from (ROOT / page for page in PAGES)


def test_no_phrase_has_to_be_read_twice() -> None:
    """CONTRIBUTING.md says how it is said instead."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PHRASES.search(line)
    ]
    assert found == [], "\n".join(found)


def test_the_phrases_are_found() -> None:
    """The search itself finds what it looks for, and leaves a user's name alone."""
    for line in (
        "x is no row",
        "may not write",
        "whoever asks",
        "so often a job",
        "Nobody waits",
        "nobody else",
    ):
        assert PHRASES.search(line), line
    for line in ("there is no row", "it is no longer", "nobody has no permission", "su nobody"):
        assert not PHRASES.search(line), line
