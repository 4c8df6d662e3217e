"""`make pages`: the parts of docs/ that the library itself can tell, written between their marks.

The plan of the house is the first sentence of each module; thresholds and metrics are the rows of
`health/measures.py`. So each is changed in one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

from dbbasic_queue.health.measures import METRICS, RANGED

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dbbasic_queue"
# From the ground up, as imports go.
WINGS = (
    *("support", "table", "engines", "engines/tsv", "engines/redis", "worker", "schedule"),
    *("config", "install", "cron", "systemd", "check", "health", "migrate", "views"),
    *("integrations", "integrations/django", "cli", "api"),
)
THEORY = "Theory of operation"


def main() -> None:
    """Write all parts into their pages."""
    for page in PAGES:
        (ROOT / page).write_text(renewed(page))
        print(f"written: {page}")


def renewed(page: str) -> str:
    """A page with its parts as they are now; raises `ValueError` if it has not their marks."""
    text = (ROOT / page).read_text()
    for name, part in PAGES[page].items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, first, rest = text.partition(begin)
        _, last, after = rest.partition(end)
        if not (first and last):
            raise ValueError(f"{page}: has no {begin} and {end}")
        text = f"{before}{begin}\n{part()}\n{end}{after}"
    return text


def thresholds() -> str:
    """What can be given a range, and the ranges by default, in Markdown."""
    rows = (
        f"| `{name}` | {each.means.rstrip(',')} | {each.warning} | {each.critical} |"
        for name, each in RANGED.items()
    )
    head = "| measure | what it is | WARNING outside of | CRITICAL outside of |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def metrics() -> str:
    """Prometheus's names and their meaning, in Markdown."""
    rows = (f"| `{each.metric}` | {each.help} |" for each in METRICS)
    return "\n".join(["| metric | what it is |", "|---|---|", *rows])


def plan() -> str:
    """All wings, each with its modules, in Markdown."""
    unknown = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / w for w in WINGS}
    if unknown != {PACKAGE}:
        raise ValueError(f"no place in the plan for {', '.join(map(str, unknown - {PACKAGE}))}")
    return "\n\n".join([room(""), *map(room, WINGS)])


def room(wing: str) -> str:
    """One wing: what it holds, and a row for each of its modules."""
    folder = PACKAGE / wing
    title = f"### {wing}\n{said(folder / '__init__.py')}" if wing else "### At the root"
    modules = sorted(path for path in folder.glob("*.py") if wing == "" or path.stem[0] != "_")
    rows = [f"| [`{path.stem}`](../{path.relative_to(ROOT)}) | {said(path)} |" for path in modules]
    return "\n".join([title, "", "| module | what it is |", "|---|---|", *rows])


def said(path: Path) -> str:
    """The first sentence of a module, and whether its theory of operation stands below it."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    first = re.sub(r"\.$", "", first).replace("|", r"\|").replace("<", "&lt;")
    return f"{first} **(theory)**" if THEORY in text else first


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/architecture.md": {"plan": plan},
    "docs/monitoring.md": {"thresholds": thresholds, "metrics": metrics},
}

if __name__ == "__main__":
    main()
