"""An environment file means under cron what it means to systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.config.environment_file import parse_environment_file

# Each answer was taken from systemd 252's own load_env_file().
CASES = {
    "A=x": {"A": "x"},
    "A=x\nB=y\n": {"A": "x", "B": "y"},
    "A=x\nA=y\n": {"A": "y"},
    "  A  =  x y  \n": {"A": "x y"},
    "A=": {"A": ""},
    "A=\nB=1": {"A": "", "B": "1"},
    "# A=x\n; B=y\n  # C=z\nD=1": {"D": "1"},
    "A=x # y": {"A": "x # y"},
    "export A=x\nB=y": {"B": "y"},
    "A\nB=y": {"B": "y"},
    "=x\nB=y": {"B": "y"},
    "1A=x\nB=y": {"B": "y"},
    "A=$HOME `id` $(id) ~": {"A": "$HOME `id` $(id) ~"},
    "A=100%": {"A": "100%"},
    'A="x y"': {"A": "x y"},
    "A='x y'": {"A": "x y"},
    "A='$HOME\\n'": {"A": "$HOME\\n"},
    'A="\\$HOME \\" \\\\ \\` \\n"': {"A": '$HOME " \\ ` \\n'},
    "A=\\$HOME\\n": {"A": "$HOMEn"},
    "A='x\ny'\nB=1": {"A": "x\ny", "B": "1"},
    'A="x\\\ny"': {"A": "xy"},
    "A=x\\\ny\nB=1": {"A": "xy", "B": "1"},
    "A='x'\"y\" z": {"A": "xyz"},
    "A=x'y'": {"A": "x'y'"},
    "A=x\r\nB=y\r\n": {"A": "x", "B": "y"},
    "A=x\\ \nB=y": {"A": "x ", "B": "y"},
    "A='unfinished": {"A": "unfinished"},
    "A=Zoë": {"A": "Zoë"},
    "A=x\\": {"A": "x"},
    "": {},
}


@pytest.mark.parametrize("text", CASES)
def test_a_file_means_what_systemd_takes_from_it(text: str) -> None:
    """Quotes, comments, continued lines and what is skipped, by systemd's rules."""
    assert parse_environment_file(text.encode()) == CASES[text]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"A=1\nB=\xff\n", "line 2: not UTF-8"),
        (b"A=1\n\nB=\0\n", "line 3: a NUL"),
        (b"A=1\n# x \\\nB=2\n", "line 2: a comment must not end in a backslash"),
        (b"\xef\xbb\xbfA=1\n", "line 1: begins with a byte order mark"),
    ],
)
def test_what_cannot_be_told_is_an_error_with_its_line(content: bytes, fault: str) -> None:
    """Bytes that no variable takes, and a comment that versions of systemd read differently."""
    with pytest.raises(ValueError, match=fault):
        parse_environment_file(content)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(max_size=20)))
def test_quoted_values_come_back_as_they_are(variables: dict[str, str]) -> None:
    """A value in double quotes, with a backslash before what a shell would expand, is exact."""
    variables = {name: value.replace("\0", "") for name, value in variables.items()}
    escaped = {
        name: "".join(f"\\{c}" if c in '"\\`$' else c for c in value)
        for name, value in variables.items()
    }
    text = "".join(f'{name}="{value}"\n' for name, value in escaped.items())
    try:
        content = text.encode()
    except UnicodeEncodeError:
        return
    assert parse_environment_file(content) == variables


@given(st.binary(max_size=80) | st.text("A=\"'\\\n\r #;x", max_size=40).map(str.encode))
def test_no_content_is_a_crash(content: bytes) -> None:
    """Any bytes are variables or one clear error."""
    said = ""
    try:
        variables = parse_environment_file(content)
    except ValueError as error:
        variables, said = {}, str(error)
    assert all(name.isidentifier() for name in variables)
    assert not said or said.startswith("line ")


def launch(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dbbasic_queue.cli_env", *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_a_command_is_run_with_the_files_variables(tmp_path: Path) -> None:
    """The file wins over what is set already, and the command's exit code is handed on."""
    (tmp_path / "env").write_text("A=from file\nB=$A\n")
    show = 'printf \'%s|\' "$A" "$B" "$C"; exit 7'
    done = launch(tmp_path / "env", "/bin/sh", "-c", show, A="before", C="stays")
    assert (done.stdout, done.returncode) == ("from file|$A|stays|", 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "/bin/true"], "environment_file missing: No such file"),
        (["bad", "/bin/true"], "environment_file bad: line 1: not UTF-8"),
        (["good", "/no/such/program"], "/no/such/program: No such file"),
        (["good"], "usage:"),
    ],
)
def test_a_launch_that_fails_says_why(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and one sentence, no traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").write_bytes(b"\xff")
    (tmp_path / "good").touch()
    done = launch(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_launcher_has_help() -> None:
    """--help says how, with an example, and exits with 0."""
    done = launch("--help")
    assert done.returncode == 0
    assert "example:" in done.stdout
