"""The job types that the application has handlers for, read from its source.

For a warning about a type that no handler knows, while the job is enqueued: importing the handlers
would take long, and would run the application's code as a user that it was not made for. So this
reads the text of the module, and knows nothing where that does not say it plainly:

    HANDLERS = {"greet": greet, "report": report}      greet, report
    HANDLERS = {**mail.HANDLERS, "greet": greet}       not known
    HANDLERS["late"] = late                            not known, also with the first line
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from ..support.files import read_regular

LONGEST: Final = 1 << 20  # bytes of source


def types_in_source(folder: Path, handlers: str) -> frozenset[str] | None:
    """Return the types that `handlers`, `MODULE:ATTRIBUTE` below `folder`, has functions for.

    None where the source does not say, or cannot be read.

    >>> types_in_source(Path("/srv/none"), "jobs:HANDLERS") is None
    True
    """
    module, _, attribute = handlers.partition(":")
    parts = module.split(".")
    for path in (
        folder.joinpath(*parts).with_suffix(".py"),
        folder.joinpath(*parts, "__init__.py"),
    ):
        try:
            tree = ast.parse(read_regular(path, LONGEST))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):  # nested too deeply
            return None
        return _keys(tree, attribute)
    return None


def _keys(tree: ast.Module, name: str) -> frozenset[str] | None:
    """The keys of the dict that is all that the module says of this name."""
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
    for statement in tree.body:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value
        if len(uses) == 1 and uses == targets and isinstance(value, ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
            if len(keys) == len(value.keys) and all(isinstance(key, str) for key in keys):
                return frozenset(str(key) for key in keys)
    return None
