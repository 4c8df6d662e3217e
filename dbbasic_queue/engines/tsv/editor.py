"""A person's own editor: which it is, how it is started, and the file that it is given.

The file lies beside the table, mode 0600, and not in $TMPDIR: payloads stay behind the folder's
permissions, as do the swap and backup files that editors make. A user who cannot write there could
not put a new table there either, and is told so before the editor opens. What is left of an edit
that was refused or killed is removed after a week.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ...errors import EditRefused
from ...support.files import NewFile, create, refusing
from ...support.opening import open_file

EDITORS: Final = ("editor", "nano", "vi")  # tried in this order, if none is named
KEPT: Final = 7 * 86_400  # seconds for which a text that was refused is kept
# How editors are told the line to begin at, by the names of their programs.
PLUS: Final = (
    *("vi", "vim", "nvim", "view", "gvim", "ex", "nano", "pico", "emacs", "emacsclient", "mg"),
    *("joe", "jed", "ne", "micro", "kak"),
)
GOTO: Final = ("code", "code-insiders", "codium")
COLON: Final = ("hx", "helix", "subl", "zed")


def editor(environment: Mapping[str, str]) -> list[str]:
    """Return the words of the command that edits a file, whose name is to be put after them.

    Args:
        environment: `$VISUAL` and `$EDITOR` are taken apart as a shell does it.

    Raises `ValueError`, in words for a person.

    >>> editor({"EDITOR": "sed -i 's/a b/c/'"})
    ['sed', '-i', 's/a b/c/']
    """
    path = environment.get("PATH")
    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environment.get(name, ""))
        except ValueError as error:
            raise ValueError(f"${name} {environment[name]!r}: {error}") from None
        if words:
            if shutil.which(words[0], path=path) is None:
                raise ValueError(f"${name}: there is no program {words[0]}")
            return words
    for name in EDITORS:
        if shutil.which(name, path=path):
            return [name]
    raise ValueError(f"there is no editor (tried {', '.join(EDITORS)}): set $VISUAL or $EDITOR")


def at_line(command: Sequence[str], path: Path, line: int | None) -> list[str]:
    """Return the words that open a file at a line, as far as this editor is known.

    >>> at_line(["/usr/bin/nano"], Path("/tmp/a"), 7)
    ['/usr/bin/nano', '+7', '/tmp/a']
    """
    # `editor` and `vi` are links to programs such as vim.basic.
    program = os.path.realpath(shutil.which(command[0]) or command[0])
    names = {os.path.basename(each).partition(".")[0] for each in (command[0], program)}
    if line is not None:
        if names.intersection(PLUS):
            return [*command, f"+{line}", str(path)]
        if names.intersection(GOTO):
            return [*command, "--goto", f"{path}:{line}"]
        if names.intersection(COLON):
            return [*command, f"{path}:{line}"]
    return [*command, str(path)]


def run(command: Sequence[str], path: Path, line: int | None = None) -> None:
    """Let the editor have the file; raises `EditRefused` unless it ends well.

    Call it in the main thread: the keys that end a program are the editor's meanwhile.
    """
    try:
        with _keys_left_to_the_editor():
            code = subprocess.run(at_line(command, path, line), check=False).returncode
    except OSError as error:
        raise EditRefused(f"cannot start {command[0]}: {error.strerror}") from error
    if code:
        how = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        raise EditRefused(f"{command[0]} {how}")


@contextmanager
def _keys_left_to_the_editor() -> Iterator[None]:
    """Leave Ctrl-C and Ctrl-\\, which each program of the terminal hears, to the editor."""
    # A function, not SIG_IGN, which the editor would inherit.
    kept = {
        number: signal.signal(number, lambda number, frame: None)
        for number in (signal.SIGINT, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


# -- the file --------------------------------------------------------------------------------------


def write_out(table: Path, text: bytes) -> Path:
    """Write the text into a new file beside the table that no other user can read."""
    remove_old_texts(table)
    path = table.with_name(f".{table.stem}.{os.urandom(6).hex()}.edit.tsv")
    with refusing(path.parent, "cannot write the edited table in"):
        create(NewFile(path, text, synced=False))
    return path


def read(path: Path) -> bytes:
    """Return what is in the file; raises `EditRefused`."""
    try:
        with open(open_file(path, os.O_RDONLY), "rb") as stream:
            return stream.read()
    except OSError as error:
        raise EditRefused(f"cannot read {path}: {error.strerror}") from error


def remove(path: Path) -> None:
    """Remove the file, and what the editor has put beside it: backups have payloads, too."""
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if path.name in name:
                with suppress(OSError):
                    os.unlink(path.parent / name)


def remove_old_texts(table: Path, age: float = KEPT) -> None:
    """Remove the texts of edits of this table that are older than `age` seconds."""
    pattern = re.compile(rf"\W*{re.escape(table.stem)}\.[0-9a-f]{{12}}\.edit\.tsv.*")
    with suppress(OSError):  # a folder that cannot be listed
        for name in filter(pattern.fullmatch, os.listdir(table.parent)):
            path = table.parent / name
            with suppress(OSError):
                if os.lstat(path).st_mtime < time.time() - age:
                    os.unlink(path)
