"""Where an attempt failed: the last frames of the application's own files, for the error column.

    ValueError: no such user\\n  at shop/mail.py:12 in send\\n  at shop/users.py:40 in find

What a program has added to the exception stands before that, as `note: ...` (PEP 678). The newlines
are escaped, as the error is one line of the table. The log has the whole traceback.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from types import CodeType, TracebackType
from typing import Final

from ..job import ERROR_LIMIT, NEXT_LINE, error_text, safe_error

FRAMES: Final = 4  # of one exception: where it was raised, and how it came there
MEMBERS: Final = 10  # of a group of exceptions
DEEPEST: Final = 5  # groups in groups
NOTES: Final = 4  # of one exception
NOTE: Final = 200  # characters of a note
ROOM: Final = 500  # characters that a long message leaves for this

_OWN: Final = str(Path(__file__).parents[1]) + os.sep
_PYTHON: Final = os.path.dirname(os.__file__) + os.sep
_PACKAGES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def failure_text(error: BaseException) -> str:
    """`Type: message` of an exception, and where it was raised: one line, `ERROR_LIMIT` at most.

    Of a group, each member by its name. What does not fit is left out, but for the first line.
    """
    text = error_text(error)
    lines = [safe_error(line) for line in _places(error)]
    if not lines:
        return text
    room = sum(len(NEXT_LINE) + len(line) for line in lines)
    most = ERROR_LIMIT - min(room, ROOM)
    if len(text) > most:
        text = text[: most - 1] + "…"
    for line in lines:
        if len(text) + len(NEXT_LINE) + len(line) > ERROR_LIMIT:
            break
        text += NEXT_LINE + line
    return text


def _places(error: BaseException, depth: int = 0) -> Iterator[str]:
    cause = error.__cause__
    if cause is not None and not depth:
        yield f"from {error_text(cause)}"
    for note in _notes(error):
        yield f"note: {note}"
    for path, line, name in _frames(error.__traceback__):
        yield f"at {path}:{line} in {name}"
    if isinstance(error, BaseExceptionGroup) and depth < DEEPEST:
        for member in error.exceptions[:MEMBERS]:
            yield f"+ {error_text(member)}"
            for place in _places(member, depth + 1):
                yield f"  {place}"
        if len(error.exceptions) > MEMBERS:
            yield f"+ {len(error.exceptions) - MEMBERS} more"


def _notes(error: BaseException) -> list[str]:
    """What `add_note` was told, the first words of each; what else bears the name is left out."""
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        return []
    return [note[:NOTE] for note in notes[:NOTES] if isinstance(note, str)]


def _frames(traceback: TracebackType | None) -> list[tuple[str, int, str]]:
    """The last frames of the application: file, line and function, the innermost last."""
    home = ""  # the folder of the handler, which may be installed as a package itself
    found: deque[tuple[str, int, str]] = deque(maxlen=FRAMES)
    for frame, line in walk_tb(traceback):
        code = frame.f_code
        file = code.co_filename
        if file.startswith((_OWN, "<frozen ")) or (_is_pythons(file) and not home):
            continue
        home = home or os.path.dirname(file) + os.sep
        if file.startswith(home) or not (_is_pythons(file) or _is_package(file)):
            found.append((_shown(code), line, code.co_name))
    return list(found)


def _is_pythons(file: str) -> bool:
    return file.startswith(_PYTHON) and not _is_package(file)


def _is_package(file: str) -> bool:
    return any(part in file for part in _PACKAGES)


def _shown(code: CodeType) -> str:
    """The name of a file: from the worker's folder on, where it is below that."""
    try:
        folder = os.getcwd() + os.sep
    except OSError:  # it was removed
        return code.co_filename
    return code.co_filename.removeprefix(folder)
