"""The argument list of a program: what a value may do to it, which is to be one word of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.support.arguments import LONGEST, Arguments

TAR = ["tar", "--create", "--file={to}", "--", "{path}"]


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_a_value_is_one_word_byte_for_byte(value: str) -> None:
    """Whatever it holds: it ends no word, begins none, and is changed by nothing."""
    words = Arguments(TAR).fill({"to": value, "path": value})
    data = value.encode()
    assert words == [b"tar", b"--create", b"--file=" + data, b"--", data]


@given(st.binary(max_size=50).filter(lambda data: b"\0" not in data))
def test_a_file_name_that_is_not_utf8(name: bytes) -> None:
    """Is handed over as `os.fsdecode` makes text of it, and arrives as it was."""
    text = name.decode("utf-8", "surrogateescape")
    assert Arguments(["ls", "--", "{path}"]).fill({"path": text})[-1] == name


def test_braces_and_several_placeholders() -> None:
    """Doubled braces stand for braces; a word may hold several placeholders, or one twice."""
    words = ["find", "{{}}", "{{x}}{a}-{b}", "{a}{a}"]
    arguments = Arguments(words)
    assert arguments.names == {"a", "b"}
    assert arguments.fill({"a": "{b}", "b": ""}) == [b"find", b"{}", b"{x}{b}-", b"{b}{b}"]


@pytest.mark.parametrize("word", ["{", "}", "{}", "{a", "a}", "{a b}", "{0}", "{a.b}", "{{a}"])
def test_a_brace_that_is_neither(word: str) -> None:
    """A brace by itself is refused, not guessed at."""
    with pytest.raises(ValueError, match="for braces of its own"):
        Arguments(["echo", word])


@pytest.mark.parametrize("words", [[], [""], ["{program}", "x"], ["/bin/{program}"]])
def test_the_program_is_the_config_s(words: list[str]) -> None:
    """No job chooses which program runs."""
    with pytest.raises(ValueError, match="first word"):
        Arguments(words)


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", "tar {path}"],
        ["/bin/bash", "-c", "{script}"],
        ["bash", "-ec", 'tar "{path}"'],
        ["bash", "--norc", "-c", "tar {path}"],
    ],
)
def test_no_value_in_a_shell_s_script(words: list[str]) -> None:
    """There it would be code."""
    with pytest.raises(ValueError, match="is a script of"):
        Arguments(words)


def test_a_value_beside_a_shell_s_script() -> None:
    """As an argument of the script it is a word."""
    words = ["sh", "-c", 'printf %s "$1"', "sh", "{path}"]
    assert Arguments(words).fill({"path": "; x"})[-1] == b"; x"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["rm", "{path}"], {"path": "-rf"}),
        (["rm", "{path}"], {"path": "-"}),
        (["rm", "{path}"], {"path": "--"}),
        (["rm", "{path}", "--"], {"path": "-x"}),
        (["rm", "{path}.old"], {"path": "-rf"}),
        (["rm", "{dir}{path}"], {"dir": "", "path": "-rf"}),
        (["rm", "{dir}", "{path}"], {"dir": "a", "path": "-x"}),
    ],
)
def test_a_leading_dash(words: list[str], values: dict[str, str]) -> None:
    """Is refused, by the name of the placeholder, where the program could take it for an option."""
    with pytest.raises(ValueError, match=r"^path: begins with '-'"):
        Arguments(words).fill(values)


def test_a_value_does_not_end_the_options() -> None:
    """A `--` that a job says is not one that the config says, even where it is allowed."""
    arguments = Arguments(["rm", "{flag}", "{path}"], ["flag"])
    with pytest.raises(ValueError, match=r"^path: begins with '-'"):
        arguments.fill({"flag": "--", "path": "-rf"})


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["rm", "--", "{path}"], []),
        (["rm", "{path}"], ["path"]),
        (["tar", "--file={path}"], []),
        (["rm", "./{path}"], []),
    ],
)
def test_a_dash_that_is_harmless_or_allowed(words: list[str], options: list[str]) -> None:
    """Behind `--`, behind other text, or where the config says so."""
    assert Arguments(words, options).fill({"path": "-x"})[-1].endswith(b"-x")


def test_what_cannot_be_a_word() -> None:
    """NUL, half a character, and what is longer than the kernel takes: told by name."""
    arguments = Arguments(["cat", "--", "{path}"])
    for value, said in (("a\0b", "NUL"), ("\ud800", "half a one"), ("x" * 131072, "131072 bytes")):
        with pytest.raises(ValueError, match=f"^path: .*{said}"):
            arguments.fill({"path": value})
    assert len(arguments.fill({"path": "x" * LONGEST})[-1]) == LONGEST


def test_missing_and_unknown_keys() -> None:
    """Each is named."""
    arguments = Arguments(TAR)
    with pytest.raises(ValueError, match=r"^path: is missing"):
        arguments.fill({"to": "x"})
    with pytest.raises(ValueError, match=r"^'pth': is not known; there are: path, to"):
        arguments.fill({"to": "x", "path": "x", "pth": "x"})


def test_options_are_placeholders() -> None:
    """One that is not there is a mistake."""
    with pytest.raises(ValueError, match=r"there is no placeholder \{pth\}"):
        Arguments(TAR, ["pth"])
