"""What is written into a unit file is what systemd reads out of it."""

from __future__ import annotations

import ctypes
import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit_reader import read_specifiers, read_words, texts

from dbbasic_queue.systemd.syntax import command, file_pattern, line, literal, parse, word, words


def fnmatches(pattern: str, path: str) -> bool:
    """fnmatch(3) of the C library, which glob(3) and so systemd use."""
    library = ctypes.CDLL(None)
    return library.fnmatch(os.fsencode(pattern), os.fsencode(path), 1) == 0


@given(st.lists(texts, max_size=4))
@example(["\\x41", "\\", '"', "'", "%n", "%%", "$$", ";", "", " ", "#", "\\;"])
def test_words_arrive_unchanged(each: list[str]) -> None:
    """Whatever words are joined into one value, systemd's rules give back the same words."""
    value = " ".join(map(word, each))
    assert read_words(value) == each
    assert "\n" not in value
    assert [literal(found) for found in words(value)] == each


@given(texts.map(lambda text: f"/{text}"))
@example("/a\\")
@example("/a ")
def test_a_line_arrives_unchanged_or_is_refused(text: str) -> None:
    """A value of a whole line is read back the same, or a ValueError says what it ends in."""
    if text.endswith((" ", "\\")):
        with pytest.raises(ValueError, match="rename it"):
            line(text)
        return
    written = line(text)
    settings = parse(f"[Service]\nKey={written}\n")
    assert [setting.value for setting in settings] == [written]
    assert written.strip(" \t\r\n") == written
    assert read_specifiers(written) == text


@given(texts.map(lambda text: f"/{text}".rstrip(" \\")))
@example("/a[b]*?\\c")
def test_a_pattern_matches_its_own_file_only(path: str) -> None:
    """`file_pattern` matches the file whose path it was made of, by the C library's rules."""
    pattern = read_specifiers(file_pattern(path))
    assert fnmatches(pattern, path)
    assert not fnmatches(pattern, path + "x")


@given(st.lists(texts, max_size=4))
def test_a_command_gets_its_arguments(arguments: list[str]) -> None:
    """With a `$` anywhere, systemd is told to replace no variables; else there is none."""
    written = command(["/usr/bin/env", *arguments])
    found = read_words(written)
    assert found[1:] == arguments
    has_dollar = any("$" in each for each in arguments)
    assert found[0] == (":/usr/bin/env" if has_dollar else "/usr/bin/env")
    assert not re.search(r"(^|\s);(\s|$)", written), "a semicolon would end the command"


def test_what_systemd_shall_replace_is_left_to_it() -> None:
    """Arguments named as verbatim keep their specifiers and variables."""
    written = command(["/bin/echo", "%i", "100%", "${A}"], verbatim=["%i", "${A}"])
    assert written == "/bin/echo %i 100%% ${A}"


@pytest.mark.parametrize(
    "text", ["a\nb", "a\tb", "a\x00b", "a\x7fb", "a\u2028b", "\ufffe", "\udc80"]
)
def test_what_no_unit_file_holds_is_refused(text: str) -> None:
    """Control characters, line separators and bytes that are not UTF-8 are named and refused."""
    for function in (word, line, file_pattern):
        with pytest.raises(ValueError, match=r"U\+"):
            function(text)


@pytest.mark.parametrize("path", ['/a"b', "/a'b", "/a\\b"])
def test_a_program_that_systemd_would_not_start_is_refused(path: str) -> None:
    """A program's path with quotes or backslashes raises; an argument may have them."""
    with pytest.raises(ValueError, match="systemd runs no program"):
        command([path])
    command(["/usr/bin/env", path])


@pytest.mark.parametrize("value", ['"a', '"a"b', 'a"b"'])
def test_words_refuses_what_word_did_not_write(value: str) -> None:
    """Values with other quoting raise instead of being misread."""
    with pytest.raises(ValueError, match="not quoted well"):
        words(value)


def test_parse_skips_comments_and_blank_lines() -> None:
    """Only assignments are told, each with its section; a value may hold `=` and `#`."""
    text = "# a=b\n\n[Unit]\nDescription=x # y\n\n[Service]\nEnvironment=A=b\n"
    found = [(each.section, each.key, each.value) for each in parse(text)]
    assert found == [("Unit", "Description", "x # y"), ("Service", "Environment", "A=b")]
