"""Completions: bash is asked for real; in all three shells no command and no option is missing."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import completions
import pytest

from dbbasic_queue import Queue
from dbbasic_queue.cli import options as parsers

FILES = completions.files()
COMMANDS = parsers.parsers()
ROOT = Path(__file__).parents[2]
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
            assert re.search(rf"^ *{own}\)|-a {own} ", text, re.MULTILINE)
        for flag in FLAG.findall(_options_of(parser.format_help())):
            word = f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} "
            wanted = f"){flag}[" if shell == "zsh" else word
            starred = f"*{flag}["
            assert wanted in f"{text} " or (shell == "zsh" and starred in text), (own, flag)


def test_every_command_has_its_files() -> None:
    """One file for each shell and command, and no other."""
    wanted = {place.format(name) for name in COMMANDS for place in PLACES.values()}
    assert FILES.keys() == wanted


# -- words of the queue, by the shells themselves --------------------------------------------------

HOSTILE = "$(touch hacked)`touch hacked`"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a queue, whose rows another program has written as well."""
    queue = Queue(tmp_path / "data/queue.tsv")
    queue.enqueue("mail.send", {}, job_id="only-one")
    queue.enqueue("report", {}, job_id="second")
    Queue(tmp_path / "other.tsv").enqueue("elsewhere", {}, job_id="others")
    with (tmp_path / "data/queue.tsv").open("a") as table:
        table.write(f"{HOSTILE}\t{HOSTILE}\t{{}}\tpending\t1\t1\t0\t\t\n")
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """Of a person whose dbq is this one."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}


CASES = [
    ("dbq show on", "only-one"),
    ("dbq cancel second on", "only-one"),
    ("dbq list --type mai", "mail.send"),
    ("dbq work --types rep", "report"),
    ("dbq show --file other.tsv oth", "others"),
    ("dbq completion fi", "fish"),
]
each_case = pytest.mark.parametrize(
    ("line", "word"), CASES, ids=["id", "ids", "type", "types", "file", "choice"]
)


def on_terminal(command: list[str], line: str, folder: Path) -> str:
    """What a shell on a terminal prints, given this line; it ends after it."""
    child, master = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(command[0], command, {**environment(folder), "TERM": "dumb"})
    said = _until_prompt(master)
    os.write(master, f"{line}\n".encode())
    said += _until_prompt(master)
    os.write(master, b"exit\n")
    with contextlib.suppress(OSError):  # the terminal is gone with the shell
        while some := os.read(master, 4096):
            said += some
    os.waitpid(child, 0)
    os.close(master)
    return said.decode(errors="replace")


def _until_prompt(master: int) -> bytes:
    """What is printed before the shell wants a line: it says READY> then."""
    said = b""
    while not said.endswith(b"READY>"):
        assert select.select([master], [], [], 60)[0], said
        said += os.read(master, 1)
    return said


@each_case
def test_bash_completes_words_of_the_queue(line: str, word: str, shop: Path) -> None:
    """The tab key, pressed on a terminal: the id or the type that there is goes into the line."""
    start = 'PS1="READY>"\neval "$(dbq completion bash)"\ndbq() { printf "<%s>" "$@"; }\n'
    (shop / "rc").write_text(start)
    command = ["/bin/bash", "--noprofile", "--rcfile", "rc", "-i"]
    assert f"<{word}>" in on_terminal(command, f"{line}\t", shop)
    assert not (shop / "hacked").exists()


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh here")
@each_case
def test_zsh_completes_words_of_the_queue(line: str, word: str, shop: Path) -> None:
    """As bash does."""
    start = (
        "PS1='READY>' PROMPT_EOL_MARK=\nunsetopt prompt_sp zle_bracketed_paste\n"
        "autoload -U compinit && compinit -u -D\nsource <(dbq completion zsh)\n"
        'dbq() { printf "<%s>" "$@" }\n'
    )
    (shop / ".zshrc").write_text(start)
    command = [shutil.which("zsh") or "", "-d", "-i"]
    assert f"<{word}>" in on_terminal(command, f"{line}\t", shop)
    assert not (shop / "hacked").exists()


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
@each_case
def test_fish_completes_words_of_the_queue(line: str, word: str, shop: Path) -> None:
    """As bash does; it can be asked what it offers."""
    program = f"dbq completion fish | source; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program],
        cwd=shop,
        env=environment(shop),
        capture_output=True,
        text=True,
        check=True,
    )
    offered = [each.split("\t")[0] for each in done.stdout.splitlines()]
    assert (offered, done.stderr) == ([word], "")
    assert not (shop / "hacked").exists()


def test_only_plain_words_are_offered(shop: Path) -> None:
    """What a shell would take for more than a word is left out, of ids and of types."""
    for what, wanted in (("ids", ["only-one", "second"]), ("types", ["mail.send", "report"])):
        done = subprocess.run(
            ["dbq", "completion", what],
            cwd=shop,
            env=environment(shop),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == wanted


def test_the_parsers_are_those_of_the_project() -> None:
    """Each command that is installed has a parser here, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(COMMANDS) == set(project["scripts"])
