"""`make pages`: the plan in docs/architecture.md, from the first sentence of each module.

The page says of each module what the module says of itself: both are changed in one place.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "dbbasic_queue"
BEGIN, END = "<!-- plan:begin -->", "<!-- plan:end -->"
# From the ground up, as imports go.
WINGS = (
    *("support", "table", "engines", "engines/tsv", "worker", "schedule", "config", "install"),
    *("cron", "systemd", "check", "health", "cli"),
)
THEORY = "Theory of operation"


def main() -> None:
    """Write the plan into the page."""
    PAGE.write_text(renewed(PAGE.read_text()))
    print(f"written: docs/{PAGE.name}")


def renewed(page: str) -> str:
    """The page with the plan as the modules are now; raises `ValueError` without its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{plan()}\n{END}{after}"


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


if __name__ == "__main__":
    main()
