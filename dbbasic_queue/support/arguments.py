"""The argument list of a program, with placeholders: `["tar", "--file={to}", "--", "{path}"]`.

Theory of operation
-------------------
A placeholder is filled in inside its word, and a word stays one word: no text is ever split, and no
shell reads it. So a value cannot end a word, begin a command or name a variable.

One thing is left that a value could do: be taken for an option, where it stands at the beginning of
its word. A value that begins with `-` is refused there, unless a word `--` stands before it, behind
which programs that keep to guideline 10 of POSIX take no options, or its name is among `options`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from .text import shown

LONGEST: Final = (128 << 10) - 1  # bytes of a word: MAX_ARG_STRLEN of execve(2), with its NUL
_NAME: Final = "[A-Za-z_][A-Za-z0-9_-]*"
_PIECE: Final = rf"\{{({_NAME})\}}|(\{{\{{)|(\}}\}})|([{{}}])"
_SHELLS: Final = {"sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "tcsh", "csh", "zsh"}


class Arguments:
    """The words of a program's call, checked.

    Raises `ValueError` for what cannot be one: no words, a placeholder in place of the program or
    inside a shell's script, a brace that is not part of a placeholder (`{{` and `}}` stand for
    braces), a name in `options` that is not a placeholder.

    >>> Arguments(["tar", "--file={to}", "--", "{path}"]).fill({"to": "a b", "path": "-x"})
    [b'tar', b'--file=a b', b'--', b'-x']
    """

    def __init__(self, words: Sequence[str], options: Collection[str] = ()) -> None:
        self.words = tuple(words)
        self._options = frozenset(options)
        if not self.words or not self.words[0]:
            raise ValueError("the first word must be the program")
        for word in self.words:
            if "\0" in word:
                raise ValueError(f"{shown(word)} holds the character NUL, which ends a word")
        self._pieces = [list(_pieces(word)) for word in self.words]
        self.names = frozenset(
            name for pieces in self._pieces for name, _ in pieces if name is not None
        )
        self._refuse_code()
        if unknown := sorted(self._options - self.names):
            raise ValueError(f"there is no placeholder {{{unknown[0]}}} in it")

    @property
    def program(self) -> str:
        """The program that is started."""
        return "".join(text for _, text in self._pieces[0])

    def _refuse_code(self) -> None:
        """Refuse a placeholder where its value would be a program, or a part of one."""
        if any(name is not None for name, _ in self._pieces[0]):
            raise ValueError("the first word is the program, and cannot be a placeholder")
        if PurePath(self.program).name not in _SHELLS:
            return
        for before, word, pieces in zip(self.words, self.words[1:], self._pieces[1:], strict=False):
            if re.fullmatch("-[A-Za-z]*c[A-Za-z]*", before) and any(name for name, _ in pieces):
                raise ValueError(
                    f"{shown(word)} is a script of {self.program}, which would run what a job"
                    " says: write \"$1\" in the script, and behind it the words 'sh' and the"
                    " placeholder"
                )

    def fill(self, values: Mapping[str, str]) -> list[bytes]:
        """Return the words with these values in place of the placeholders, as UTF-8.

        A lone surrogate that stands for a byte, as `os.fsdecode` makes it of a file name, becomes
        that byte again.

        Raises `ValueError`, which names the placeholder, for one that has no value, a value that
        has no placeholder, and a value that cannot stand there: it holds a NUL, begins with `-`
        (see above), or makes a word longer than the kernel takes.
        """
        if missing := sorted(self.names - values.keys()):
            raise ValueError(f"{missing[0]}: is missing")
        if unknown := sorted(values.keys() - self.names):
            known = ", ".join(sorted(self.names)) or "none"
            raise ValueError(f"{shown(unknown[0])}: is not known; there are: {known}")
        found, options_ended = [], False
        for pieces in self._pieces:
            word = b"".join(_bytes(name, text, values) for name, text in pieces)
            first = _first(pieces, values)
            if first and word[:1] == b"-" and not options_ended and first not in self._options:
                raise ValueError(
                    f"{first}: begins with '-', which the program would take for an option"
                )
            if len(word) > LONGEST:
                name = next((name for name, _ in pieces if name), "")
                raise ValueError(
                    f"{name}: makes a word of {len(word)} bytes; the kernel takes {LONGEST}"
                )
            options_ended = options_ended or (word == b"--" and not first)
            found.append(word)
        return found


def _pieces(word: str) -> Iterator[tuple[str | None, str]]:
    """The placeholders of a word by name, and the text between them."""
    end = 0
    for match in re.finditer(_PIECE, word):
        if match[4]:
            raise ValueError(f"{shown(word)}: write {{{{ and }}}} for braces of its own")
        if word[end : match.start()]:
            yield None, word[end : match.start()]
        yield (match[1], "") if match[1] else (None, match[0][0])
        end = match.end()
    if word[end:]:
        yield None, word[end:]


def _bytes(name: str | None, text: str, values: Mapping[str, str]) -> bytes:
    if name is None:
        return text.encode("utf-8", "surrogateescape")
    value = values[name]
    if "\0" in value:
        raise ValueError(f"{name}: holds the character NUL, which ends a word")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}: holds the character {value[error.start]!a}, half a one"
        ) from None


def _first(pieces: list[tuple[str | None, str]], values: Mapping[str, str]) -> str | None:
    """The placeholder whose value a word begins with; None if the word begins by itself."""
    for name, text in pieces:
        if text:
            return None
        if name is not None and values[name]:
            return name
    return None
