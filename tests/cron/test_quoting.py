"""Words and settings come out of cron and the shell as the bytes they were."""

from __future__ import annotations

import subprocess

import cron_reader
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dbbasic_queue.cron.quoting import MAX_LINE, as_logged, as_run, env_line, quote

HOSTILE = [
    "", " ", "a b", "'", '"', "\\", "\\\\", "%", "\\%", "%\\", "%%", "\\\\%", "\\'", "'\\",
    "$HOME", "$(id)", "`id`", ";id", "&&", "|", ">x", "<x", "*", "?", "[a]", "~", "~root", "!", "#",
    "-n", "--", "{a,b}", "a=b", "\\n", "\\0", "%i%%n", "Zoë", "漢字", "\u200b", "\udcff",
    "'; touch pwned; '", '"$(touch pwned)"', "\\" * 7 + "%", "x" * 10_000,
]  # fmt: skip
words = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("'\"\\%$` ;#"), max_size=30
)


def through_cron_and_sh(text: list[str]) -> list[bytes]:
    """What `printf` is given when cron runs it with these words."""
    command = "printf '\\%s\\0' " + " ".join(map(quote, text))
    line = cron_reader.unescape(command.encode("utf-8", "surrogateescape"))
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    return done.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_word_arrives_as_it_is(word: str) -> None:
    """Whatever means something to cron or the shell means nothing inside a quoted word."""
    assert through_cron_and_sh([word]) == [word.encode("utf-8", "surrogateescape")]


@settings(max_examples=150, deadline=None)
@given(st.lists(words, min_size=1, max_size=20))
def test_any_words_arrive_as_they_are(text: list[str]) -> None:
    """So do arbitrary words, one beside the other."""
    assert through_cron_and_sh(text) == [word.encode() for word in text]


@given(st.lists(words, min_size=1, max_size=5))
def test_no_backslash_is_left_for_cron_to_take(text: list[str]) -> None:
    """Crons that unescape `\\%` only, and not `\\\\`, read the same command."""
    command = " ".join(map(quote, text)).encode()
    assert b"\\\\" not in command
    assert cron_reader.unescape(command) == command.replace(b"\\%", b"%")


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85"])
def test_a_control_character_is_refused(character: str) -> None:
    """A newline would begin another entry; no control character is written at all."""
    with pytest.raises(ValueError, match="control character"):
        quote(f"a{character}b")


@settings(max_examples=500)
@given(words)
@example(" a")
@example("a ")
@example("'a'")
@example("\"'a'\"")
@example("'")
@example("''")
def test_a_setting_is_exact_or_not_said(value: str) -> None:
    """cron reads a setting's line as this value, or there is no line."""
    line = env_line("NAME", value)
    if line is not None:
        assert cron_reader.load_env(line.encode()) == (b"NAME", value.encode())


@pytest.mark.parametrize(
    "value", ["", "a", "a b", " a", "it's", "100%", "\\", "$HOME", "#", "a=b", "'"]
)
def test_usual_values_have_a_line(value: str) -> None:
    """What cron can say is said in a line, not carried by each command."""
    assert env_line("NAME", value) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("NAME", "a "), ("NAME", "'a'"), ("SHELL", "/bin/false"), ("LOGNAME", "x"), ("A B", "x")],
)
def test_what_cron_would_change_has_no_line(name: str, value: str) -> None:
    """Trailing blanks, values in quotes of their own, and cron's own variables."""
    assert env_line(name, value) is None


def test_a_setting_too_long_for_cron_has_no_line() -> None:
    """cron cuts a longer line off without a word."""
    longest = "x" * (MAX_LINE - len("NAME="))
    assert cron_reader.load_env(f"NAME={longest}".encode()) == (b"NAME", longest.encode())
    assert env_line("NAME", longest) == f"NAME={longest}"
    assert env_line("NAME", longest + "x") is None


@given(st.binary(max_size=30) | st.text("%\\a", max_size=12).map(str.encode))
def test_what_cron_runs_and_logs_is_known(command: bytes) -> None:
    """The command that cron logs is found again from the crontab's text."""
    assert as_run(command) == cron_reader.unescape(command)
    assert as_logged(command).isascii()


def test_the_log_is_readable() -> None:
    """cron writes control characters and bytes above ASCII as its source says."""
    assert as_logged(b"a\n\x7f\xc3") == b"a^J^?\\303"


def test_the_examples_are_true() -> None:
    """The docstrings' examples are true."""
    assert quote("100% of it's") == "'100\\% of it'\"'\"'s'"
    assert env_line("GREETING", " hello") == 'GREETING=" hello"'
