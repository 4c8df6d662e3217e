"""The installers' command line: verbs, exit codes, what is said where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_crontab
import pytest

from dbbasic_queue.cli import install as cli_install
from dbbasic_queue.install.site import Site
from dbbasic_queue.install.status import Status, survey

CONFIG = """\
name = "myapp"
[queue]
file = "queue.tsv"
[worker]
handlers = "myapp.jobs:HANDLERS"
python = "/usr/bin/python3"
user = "nobody"
[log]
file = "/var/log/myapp/dbq.log"
"""
TOOLS = [cli_install.cron, cli_install.systemd, cli_install.logrotate]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image with a config and an interpreter in it."""
    root = tmp_path / "image"
    (root / "etc/myapp").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3").touch()
    (root / "etc/myapp/dbq.toml").write_text(CONFIG)
    return root


@pytest.fixture
def run(root: Path) -> Callable[..., int]:
    def call(*arguments: str, tool: Callable[..., int] = cli_install.cron) -> int:
        return tool(["--root", str(root), *arguments])

    return call


@pytest.fixture
def config(root: Path) -> tuple[str, str]:
    return ("--config", str(root / "etc/myapp/dbq.toml"))


def files(root: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        text = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (status.st_ino, status.st_mtime_ns, text)
    return found


@pytest.mark.parametrize("tool", [cli_install.cron, cli_install.logrotate])
def test_apply_twice_check_diff_and_remove(
    tool: Callable[..., int],
    root: Path,
    run: Callable[..., int],
    config: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each verb's exit code and words, the whole way from nothing to nothing."""
    before = files(root)
    assert run(*config, "--check", tool=tool) == 1
    assert capsys.readouterr() == ("", "")
    assert run(*config, "--diff", tool=tool) == 1
    assert capsys.readouterr().out.startswith("--- /dev/null\n+++ /etc/")
    assert run(*config, "--status", tool=tool) == 1
    assert capsys.readouterr().out == "myapp: not installed\n"
    assert {k: v[2] for k, v in files(root).items()} == {k: v[2] for k, v in before.items()}
    assert run(*config, tool=tool) == 0
    assert re.fullmatch(r"created /etc/\S+\n", capsys.readouterr().out)
    installed = files(root)
    assert run(*config, tool=tool) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert run(*config, "--check", tool=tool) == 0
    assert run(*config, "--diff", tool=tool) == 0
    assert capsys.readouterr() == ("", "")
    assert files(root) == installed
    assert run("--status", "--name", "myapp", tool=tool) == 0
    assert ": as installed\n" in capsys.readouterr().out
    assert run("--remove", "--name", "myapp", tool=tool) == 0
    assert re.fullmatch(r"deleted /etc/\S+\n", capsys.readouterr().out)
    assert run("--remove", "--name", "myapp", tool=tool) == 0
    assert "not installed" in capsys.readouterr().out
    assert [name for name in files(root) if "dbq-" in name or "dbbasic" in name] == []


def test_print_is_the_file_itself(
    run: Callable[..., int],
    root: Path,
    config: tuple[str, str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """--print writes nothing, and what it prints, below the name, is what apply would write."""
    assert run(*config, "--print") == 0
    printed = capfdbinary.readouterr().out
    assert not (root / "etc/cron.d").exists()
    run(*config)
    text = (root / "etc/cron.d/dbq-myapp").read_bytes()
    assert b"# /etc/cron.d/dbq-myapp\n" + text == printed


def test_print_names_each_file(
    run: Callable[..., int],
    root: Path,
    config: tuple[str, str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Of several files each has its name before it, in a comment."""
    assert run(*config, "--print", tool=cli_install.systemd) == 0
    printed = capfdbinary.readouterr().out.decode()
    names = re.findall(r"^# (/\S+)$", printed, re.MULTILINE)
    assert "/etc/systemd/system/dbq-myapp-worker.service" in names
    assert len(names) == len(set(names)) > 3


@pytest.mark.parametrize("verb", ["--print", "--diff"])
def test_a_reader_that_has_seen_enough_is_not_a_fault(
    root: Path, config: tuple[str, str], verb: str
) -> None:
    """As in `dbq-install-cron --print | head`: nothing is said about the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dbbasic_queue.cli.install", "cron", verb, *config]
    done = subprocess.run([*command, "--root", str(root)], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_status_without_a_config_lists_all_installations(
    run: Callable[..., int],
    root: Path,
    config: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each with its entries; exit code 1 when nothing is installed."""
    monkeypatch.delenv("DBQ_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run("--status") == 1
    assert capsys.readouterr().out == "dbq-install-cron: nothing is installed\n"
    run(*config)
    (root / "etc/other").mkdir()
    (root / "etc/other/dbq.toml").write_text(CONFIG.replace('"myapp"', '"other"'))
    run("--config", str(root / "etc/other/dbq.toml"))
    capsys.readouterr()
    assert run("--status") == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^(\w+), by cron", shown, re.MULTILINE) == ["myapp", "other"]
    assert shown.count("worker") == 2
    assert run("--status", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["myapp", "other"]


def test_a_release_behind_a_link_is_named_by_the_link(
    run: Callable[..., int], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed from within `current`, the entries go on with the next release, unchanged."""
    current = tmp_path / "current"
    text = CONFIG.replace("/usr/bin/python3", "venv/bin/python")
    for number in (1, 2):
        (tmp_path / f"releases/{number}").mkdir(parents=True)
        (tmp_path / f"releases/{number}/dbq.toml").write_text(text)
        current.unlink(missing_ok=True)
        current.symlink_to(f"releases/{number}")
        monkeypatch.chdir(current)
        monkeypatch.setenv("PWD", str(current))
        assert run() == 0
        entries = (root / "etc/cron.d/dbq-myapp").read_text()
        assert f"cd {current} && exec {current}/venv/bin/python -P " in entries
        assert f" --config {current}/dbq.toml\n" in entries
        assert "releases" not in entries


def test_a_config_in_the_image_is_named_as_the_image_sees_it(
    run: Callable[..., int], root: Path, config: tuple[str, str]
) -> None:
    """Paths in the entries do not begin with --root, nor do those relative to the config."""
    run(*config)
    text = (root / "etc/cron.d/dbq-myapp").read_text()
    assert str(root) not in text
    assert "cd /etc/myapp && exec /usr/bin/python3 -P -m dbbasic_queue work --config /etc/" in text


def test_the_words_of_strangers_cannot_command_the_terminal(
    run: Callable[..., int],
    config: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The type of a running job, for one, may hold anything: --status shows it escaped."""
    run(*config)

    def evil(*args: Any) -> Status | None:
        found = survey(*args)
        return found and replace(found, running=["evil\x1b[2J\u2028 a1"], config="/\x1b]0;x\x07")

    monkeypatch.setattr(cli_install, "survey", evil)
    capsys.readouterr()
    assert run("--status", "--name", "myapp") == 0
    shown = capsys.readouterr().out
    assert "evil\\x1b[2J\\u2028 a1\n" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", shown)


def test_an_edit_is_shown_and_kept_without_force(
    run: Callable[..., int],
    root: Path,
    config: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, the diff on standard error, and the file as it was."""
    run(*config)
    file = root / "etc/cron.d/dbq-myapp"
    file.write_text(file.read_text() + "# mine\n")
    capsys.readouterr()
    for arguments in (config, ("--remove", "--name", "myapp")):
        assert run(*arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "changed by hand" in said.err
        if arguments is config:
            assert "\n--- /etc/cron.d/dbq-myapp\n" in said.err, "a diff as it can be applied"
            assert "\n-# mine\n" in said.err
        assert file.read_text().endswith("# mine\n")
    assert run(*config, "--diff") == 1
    said = capsys.readouterr()
    assert said.out.startswith("--- /etc/cron.d/dbq-myapp\n+++ /etc/cron.d/dbq-myapp\n@@ ")
    assert "\n-# mine\n" in said.out
    assert said.err == ""
    assert run("--status", "--name", "myapp") == 0
    assert "dbq-myapp: changed by hand" in capsys.readouterr().out
    assert run(*config, "--force") == 0
    assert run(*config, "--check") == 0


def test_removal_when_the_config_is_gone_or_renamed(
    run: Callable[..., int], root: Path, config: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed config is told of its old installation; --name removes it without any config."""
    run(*config)
    path = root / "etc/myapp/dbq.toml"
    path.write_text(CONFIG.replace('"myapp"', '"newname"'))
    capsys.readouterr()
    assert run(*config) == 0
    assert "installed under its former name, myapp, too" in capsys.readouterr().err
    path.unlink()
    assert run("--remove") == 2
    assert run("--remove", "--name", "myapp") == 0
    assert os.listdir(root / "etc/cron.d") == ["dbq-newname"]
    assert run("--status", "--name", "newname") == 0
    assert "the config or its queue cannot be read" in capsys.readouterr().out


def test_a_lost_manifest_is_a_difference(
    run: Callable[..., int], root: Path, config: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are right, but removal would not know them: --check and --diff say so."""
    run(*config)
    (root / "var/lib/dbbasic-queue/installed/myapp.cron.json").unlink()
    assert run(*config, "--check") == 1
    capsys.readouterr()
    assert run(*config, "--diff") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "the manifest is not" in said.err
    assert run(*config) == 0
    assert run(*config, "--check") == 0


def test_two_configs_side_by_side(run: Callable[..., int], root: Path, tmp_path: Path) -> None:
    """Each has its own file and manifest; removing one leaves the other."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(CONFIG.replace('"myapp"', f'"{name}"'))
        assert run("--config", str(tmp_path / f"{name}.toml")) == 0
    assert run("--remove", "--name", "one") == 0
    assert os.listdir(root / "etc/cron.d") == ["dbq-two"]
    assert run("--check", "--config", str(tmp_path / "two.toml")) == 0


def test_double_scheduling_is_said(
    run: Callable[..., int], config: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A second scheduler of a name is refused with the way out; --force installs and tells it."""
    run(*config)
    run(*config, tool=cli_install.logrotate)
    assert "scheduled" not in capsys.readouterr().err
    assert run(*config, tool=cli_install.systemd) == 2
    said = capsys.readouterr().err
    assert "myapp is scheduled by cron already" in said
    assert "dbq-install-cron --remove --name myapp --system --root" in said
    assert run("--status", "--name", "myapp", tool=cli_install.systemd) == 1
    assert run(*config, "--force", tool=cli_install.systemd) == 0
    assert "myapp is scheduled 2 times: by cron, by systemd" in capsys.readouterr().err


def test_json_is_for_programs(
    run: Callable[..., int], config: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Changes and status as JSON on standard output, nothing else there."""
    run(*config, "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["changes"] == [{"path": "/etc/cron.d/dbq-myapp", "action": "create"}]
    run("--status", "--name", "myapp", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["files"] == {"/etc/cron.d/dbq-myapp": "as installed"}
    assert record["entries"][0]["label"] == "worker"
    run("--status", "--name", "other", "--json")
    assert json.loads(capsys.readouterr().out) is None


def test_faults_of_the_config_are_told_and_nothing_is_written(
    run: Callable[..., int], root: Path, config: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All faults with their lines, exit code 2, no traceback."""
    path = root / "etc/myapp/dbq.toml"
    path.write_text(CONFIG + 'colour = "red"\n[prune]\nschedule = "0 0 30 2 *"\n')
    before = files(root)
    for verb in ([], ["--check"], ["--diff"], ["--print"], ["--remove"]):
        assert run(*config, *verb) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{path}:10: [log].colour" in said.err
        assert f"{path}:12: [prune].schedule" in said.err
    assert files(root) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "x"],
        ["--config", "missing.toml"],
        ["--root", "/no/such/folder"],
        ["--remove", "--name", "../x"],
        ["--status", "--name", "X"],
        ["--user", "no-such-user", "--root", "/", "--remove", "--name", "x"],
    ],
)
def test_a_users_mistake_is_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Exit code 2 and a sentence on standard error that begins with the command's name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dbq.toml").write_text(CONFIG)
    assert cli_install.cron(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("dbq-install-cron: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--print", "--diff"], ["--user", "--system"], ["--nonsense"], ["extra"], ["--rem"]],
)
def test_a_wrong_option_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two verbs, two scopes, unknown and abbreviated options."""
    with pytest.raises(SystemExit) as error:
        cli_install.cron(arguments)
    assert error.value.code == 2
    assert "usage: dbq-install-cron" in capsys.readouterr().err


def test_who_is_not_root_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A system installation, or another user's, takes root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cli_install, "_own_name", lambda: "zoe")
    for arguments in (["--system"], ["--system", "--remove", "--name", "x"]):
        assert cli_install.cron([*arguments]) == 2
        assert "needs root" in capsys.readouterr().err
    for arguments in (["--user", "root"], ["--user", "root", "--status", "--name", "x"]):
        assert cli_install.cron([*arguments]) == 2
        assert "only root can" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS)
def test_help_has_examples_and_exit_codes(
    tool: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """--help of each command, with examples of its own name."""
    with pytest.raises(SystemExit) as error:
        tool(["--help"])
    assert error.value.code == 0
    said = capsys.readouterr().out
    assert "examples:\n  dbq-install-" in said
    assert "exit status:" in said
    assert ("--user" in said) is (tool is not cli_install.logrotate)


def test_the_default_config_is_found(
    root: Path,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """$DBQ_CONFIG, dbq.toml in the current folder, then the system's."""
    monkeypatch.setenv("DBQ_CONFIG", str(root / "etc/myapp/dbq.toml"))
    assert run("--check") == 1
    monkeypatch.delenv("DBQ_CONFIG")
    monkeypatch.chdir(root / "etc")
    assert run("--check") == 2
    monkeypatch.chdir(root / "etc/myapp")
    assert run("--check") == 1
    assert "there is no config: tried dbq.toml and /etc/" in capsys.readouterr().err


def test_a_users_crontab_from_nothing_to_nothing(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """--user goes through crontab(1) on $PATH; foreign bytes are the same at the end."""
    (tmp_path / "bin").mkdir()
    fake_crontab.install(f"{tmp_path}/bin/crontab")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CRONTAB", str(tmp_path / "spool"))
    monkeypatch.setattr(Site, "home_folder", lambda self: tmp_path / "home")
    monkeypatch.setattr(cli_install, "_own_name", lambda: fake_crontab.USER)
    foreign = fake_crontab.HEADER + b"@daily caf\xe9\r\n"
    (tmp_path / "spool").write_bytes(foreign)
    path = ["--config", str(root / "etc/myapp/dbq.toml"), "--user"]
    assert cli_install.cron(path) == 0
    assert capsys.readouterr().out == "created /var/spool/cron/crontabs/tester:myapp\n"
    assert cli_install.cron([*path, "--check"]) == 0
    assert cli_install.cron(["--user", "--status", "--name", "myapp"]) == 0
    assert "worker  * * * * *" in capsys.readouterr().out
    assert cli_install.cron(["--user", "--remove", "--name", "myapp"]) == 0
    assert (tmp_path / "spool").read_bytes() == foreign


def test_output_that_is_not_utf_8_takes_any_path(root: Path, tmp_path: Path) -> None:
    """A path that the terminal cannot show is escaped, not a traceback."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xc3\xa9")
    os.mkdir(folder)
    Path(folder, "dbq.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "dbbasic_queue.cli.install", "cron", "--root", str(root)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for more in (["--config", f"{folder}/dbq.toml"], ["--status", "--name", "myapp"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, env=environment, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert "from " + str(tmp_path) + "/\\udcff\\xe9/dbq.toml" in done.stdout


def test_a_link_to_the_configs_folder_is_told_of(tmp_path: Path) -> None:
    """A release that `current` leads to: the next deployment would leave the entries behind."""
    release = tmp_path / "releases" / "1"
    release.mkdir(parents=True)
    assert cli_install._other_name(release / "dbq.toml") is None
    (tmp_path / "current").symlink_to("releases/1")
    said = cli_install._other_name(release / "dbq.toml")
    assert said is not None
    assert f"--config {tmp_path}/current/dbq.toml" in said
    assert cli_install._other_name(tmp_path / "current" / "dbq.toml") is None


def test_a_diff_has_the_files_own_bytes(root: Path, tmp_path: Path) -> None:
    """In any locale, so that it can be applied: a path that is not ASCII is not escaped."""
    folder = tmp_path / "Größe"
    folder.mkdir()
    (folder / "dbq.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "dbbasic_queue.cli.install", "cron", "--root", str(root)]
    done = subprocess.run(
        [*command, "--diff", "--config", str(folder / "dbq.toml")],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert "Größe/dbq.toml".encode() in done.stdout
