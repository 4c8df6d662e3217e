"""Completions: bash is asked for real; in all three shells no command and no option is missing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import completions
import parsers
import pytest

FILES = completions.files()
COMMANDS = parsers.parsers()
PLACES = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/vendor-completions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def asked(words: list[str], folder: Path) -> list[str]:
    """What bash offers when the tab key is pressed behind these words."""
    script = folder / "completion"
    script.write_text(FILES[PLACES["bash"].format(words[0])])
    function = f"_{words[0].replace('-', '_')}"
    program = f"""
        . {script}
        COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
        {function}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-uec", program, "bash", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["dbq", "enq"], ["enqueue", "enqueue-recurring"]),
        (["dbq", "list", "--st"], ["--status"]),
        (["dbq", "list", "--status", "f"], ["failed"]),
        (["dbq", "prune", "--status", ""], ["completed", "failed", "cancelled"]),
        (["dbq", "list", "--limit", ""], []),
        (["dbq", "work", "--conf"], ["--config"]),
        (["dbq", "work", "--config", "my"], ["my config.toml"]),
        (["dbq-health", "--format", "p"], ["prometheus"]),
        (["check_dbq", "--stuck-w"], ["--stuck-warning"]),
        (["dbq-install-systemd", "--re"], ["--remove"]),
        (["dbq-install-cron", "--user", "--pr"], ["--print"]),
    ],
)
def test_bash_offers(words: list[str], offered: list[str], tmp_path: Path) -> None:
    """Commands, options, choices and files, where each belongs."""
    (tmp_path / "my config.toml").touch()
    assert asked(words, tmp_path) == offered


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_offers_every_option(name: str, tmp_path: Path) -> None:
    """Whatever --help names can be completed, of each command of a command, too."""
    own = parsers.subcommands(COMMANDS[name])
    assert set(asked([name, ""], tmp_path)) >= set(own)
    for words, parser in [([name], COMMANDS[name]), *(([name, s], p) for s, p in own.items())]:
        listed = parser.format_help().partition("\nexamples:")[0]
        assert set(asked([*words, "-"], tmp_path)) >= set(FLAG.findall(_options_of(listed)))


def _options_of(listed: str) -> str:
    """The column of the options: the texts beside it name options of other commands."""
    return "\n".join(re.findall(r"^  (-.*?)(?:  |$)", listed, re.MULTILINE))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize("name", COMMANDS)
def test_other_shells_know_every_option(shell: str, name: str) -> None:
    """Each option and each command is in the files for zsh and fish."""
    text = FILES[PLACES[shell].format(name)]
    for own, parser in {"": COMMANDS[name], **parsers.subcommands(COMMANDS[name])}.items():
        if own:
            assert re.search(rf"^{own}\)|-a {own} ", text, re.MULTILINE)
        for flag in FLAG.findall(_options_of(parser.format_help())):
            word = f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} "
            wanted = f"){flag}[" if shell == "zsh" else word
            starred = f"*{flag}["
            assert wanted in f"{text} " or (shell == "zsh" and starred in text), (own, flag)


def test_every_command_has_its_files() -> None:
    """One file for each shell and command, and no other."""
    wanted = {place.format(name) for name in COMMANDS for place in PLACES.values()}
    assert FILES.keys() == wanted
