"""`dbq-health`: exit codes, arguments, environment, config, textfile and pings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ping_service import Service
from tables import NOBODY, in_child, let_in, text, write

from dbbasic_queue.cli import health as cli_health
from dbbasic_queue.cli.health import main
from dbbasic_queue.config import sections as configs
from dbbasic_queue.engines.tsv.engine import TsvEngine
from dbbasic_queue.health.measures import RANGED
from dbbasic_queue.health.report import CRITICAL, OK, UNKNOWN, WARNING
from dbbasic_queue.schedule.clock import machine_zone

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
HEALTH = (sys.executable, "-m", "dbbasic_queue", "health")
FORMATS = ("nagios", "text", "prometheus", "json")


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No queue named by the environment or the system, on a machine that has run for long."""
    monkeypatch.delenv("DBQ_FILE", raising=False)
    monkeypatch.delenv("DBQ_CONFIG", raising=False)
    monkeypatch.setattr("dbbasic_queue.cli.common.SYSTEM_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr("dbbasic_queue.health.judge.machine_uptime", lambda: 10**6)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def service() -> Iterator[Service]:
    """A service to ping."""
    with Service() as server:
        yield server


def now() -> int:
    return int(time.time())


def lines_of(state: int) -> list[bytes]:
    """Lines of a table that is in this state."""
    return {
        OK: [text(run_at=now())],
        WARNING: [text("f1", "failed", run_at=now())],
        CRITICAL: [text("r1", "processing", run_at=now())],
    }[state]


def make_config(folder: Path, queue: Path, more: str = "", **health: object) -> Path:
    """A dbq.toml with some keys of `[health]`."""
    config = folder / "dbq.toml"
    keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in health.items())
    config.write_text(
        f'name = "myapp"\n[queue]\nfile = "{queue}"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
        f"{more}[health]\n{keys}"
    )
    return config


def age(config: Path, seconds: int) -> None:
    """Let the config be that old."""
    os.utime(config, (now() - seconds,) * 2)


# -- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("state", [OK, WARNING, CRITICAL])
def test_the_exit_code_is_the_state(
    path: Path, capsys: pytest.CaptureFixture[str], form: str, state: int
) -> None:
    """0, 1 and 2, in every format, with nothing on standard error."""
    write(path, *lines_of(state))
    assert main(["--file", str(path), "--format", form]) == state
    out, err = capsys.readouterr()
    assert err == ""
    assert {
        "nagios": out.startswith(f"DBQ {('OK', 'WARNING', 'CRITICAL')[state]}: "),
        "text": out.startswith(f"{('OK', 'WARNING', 'CRITICAL')[state]}: "),
        "prometheus": f'dbq_health_state{{queue="{path}"}} {state}\n' in out,
        "json": out.startswith("{") and json.loads(out)["code"] == state,
    }[form]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: None, "there is no queue"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "is not a queue table"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
    ],
    ids=["missing", "empty", "binary", "folder", "pipe"],
)
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_not_a_queue_is_unknown(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    what: str,
    form: str,
) -> None:
    """A missing, empty or binary file, a folder and a pipe are 3, with a clear line."""
    path.parent.mkdir()
    make(path)
    assert main(["--file", str(path), "--format", form]) == UNKNOWN
    out, err = capsys.readouterr()
    assert err == ""
    assert (what in out) or form == "prometheus"


def test_a_file_that_cannot_be_read_is_unknown(path: Path) -> None:
    """A queue that is closed to the reader is 3."""
    write(path)
    path.chmod(0)
    let_in(path.parent)
    assert in_child(lambda: main(["--file", str(path)]), user=NOBODY) == UNKNOWN


WRONG = [
    ["--bogus"],
    ["extra"],
    ["--format", "xml"],
    ["--failed-warning", "a:b"],
    ["--failed-critical", "20:10"],
    ["--failed-warn", "1"],
    ["--stuck-after", "soon"],
    ["--timeout", "0"],
    ["-t", "never"],
    ["-t", "inf"],
    ["--file"],
]


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_arguments_are_unknown(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """argparse's own 2 would mean CRITICAL: a mistake is 3, in one line on standard output."""
    assert main(arguments) == UNKNOWN
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert out.startswith("DBQ UNKNOWN: ")
    assert out.endswith("; see --help\n")


@pytest.mark.parametrize("argument", ["-h", "--help", "-V", "--version"])
def test_help_and_version_are_unknown(capsys: pytest.CaptureFixture[str], argument: str) -> None:
    """The guidelines want 3 for them, too: they say nothing about the queue."""
    assert main([argument]) == UNKNOWN
    out, err = capsys.readouterr()
    assert out.startswith("usage: dbq-health" if "h" in argument else "dbq-health 2")
    assert err == ""


def test_a_fault_in_the_config_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """All faults of the config, in one line."""
    Path("dbq.toml").write_text('name = "X"\n[queue]\nfil = "q"\n')
    assert main([]) == UNKNOWN
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert "dbq.toml:1: name" in out
    assert "[queue].file: is missing" in out


@pytest.mark.parametrize("form", FORMATS)
def test_a_time_out_is_unknown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Something that never answers, as a config on a dead disk, is given up in time."""
    Path("dbq.toml").write_text("")
    monkeypatch.setattr(configs, "load", lambda path: time.sleep(60))
    assert main(["-t", "0.5", "--format", form]) == UNKNOWN
    out, _ = capsys.readouterr()
    assert ("no answer within 0.5 s" in out) or form == "prometheus"


def test_an_error_in_the_check_is_unknown(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that no code expects is 3 and one line: Python's own 1 means WARNING."""

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("no\nway")

    monkeypatch.setattr(cli_health, "check_health", fail)
    assert main(["--file", str(path)]) == UNKNOWN
    out, err = capsys.readouterr()
    assert out == "DBQ UNKNOWN: error in the check: ZeroDivisionError: no\\nway\n"
    assert err == ""


def test_a_check_that_is_killed_is_unknown(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that the kernel kills, for its memory or otherwise, is 3."""
    monkeypatch.setattr(cli_health, "check_health", lambda *_, **__: os.kill(os.getpid(), 9))
    assert main(["--file", str(path)]) == UNKNOWN
    assert "the check was killed by signal 9" in capsys.readouterr().out


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run it as cron, systemd and Nagios do."""
    command = [sys.executable, "-m", "dbbasic_queue.cli_health", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, text=True, env=environment, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", "| true"])
def test_the_exit_code_stands_without_a_reader(path: Path, redirect: str) -> None:
    """A full disk, a closed standard output or a closed pipe does not change the code."""
    write(path, *lines_of(CRITICAL))
    command = f'"$0" -m dbbasic_queue.cli_health --file "$1" {redirect}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (CRITICAL, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", ["json", "prometheus"])
def test_what_machines_read_is_utf_8(path: Path, tmp_path: Path, encoding: str, form: str) -> None:
    """JSON and Prometheus's format are UTF-8 in any locale, and JSON that every reader takes."""
    folder = tmp_path / "Zoë ✓\x9b"
    folder.mkdir()
    write(folder / "queue.tsv", text("f1", "failed", run_at=now(), error="E: Zoë …\x9b\u2028!"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [*HEALTH, "--format", form, "--file", str(folder / "queue.tsv")],
        env=environment,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (WARNING, b"")
    told = done.stdout.decode("utf-8")
    assert "Zoë ✓" in told
    assert not [c for c in told if "\x7f" <= c < "\xa0" or c == "\u2028"]
    if form == "json":
        assert json.loads(told)["findings"][0]["named"][0]["error"] == r"E: Zoë …\x9b\u2028!"


def test_a_terminal_that_knows_few_characters(path: Path) -> None:
    """A job's error is shown as far as the locale's characters go."""
    write(path, text("f1", "failed", run_at=now(), error="E: Zoë …"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue.cli_health", "--file", path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (WARNING, "")
    assert r"E: Zo\xeb \u2026" in done.stdout


def test_both_names_are_this_command() -> None:
    """`dbq-health` and the plugin's name `check_dbq` are one."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["dbq-health"] == scripts["check_dbq"] == "dbbasic_queue.cli.health:main"


# -- arguments -----------------------------------------------------------------------------------


def test_help_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option with its default, examples that it takes itself, and every exit code."""
    main(["--help"])
    told = capsys.readouterr().out
    for name in RANGED:
        for level in ("warning", "critical"):
            assert f"--{name}-{level} RANGE" in told
    assert re.search(r"--stuck-after TIME\s+a job is stuck .*\(30min\)", told, re.S)
    assert re.search(r"--failed-critical RANGE\s+CRITICAL .*\(9\)", told, re.S)
    assert [code for code in "0123" if re.search(rf"^  {code}  [A-Z]+", told, re.M)] == [*"0123"]
    examples = re.findall(r"^  dbq-health (.*?)(?: \|.*)?$", told, re.M)
    assert len(examples) > 3
    for example in examples:
        cli_health._parser().parse_args(example.split())


def test_thresholds_are_taken_from_the_arguments(path: Path) -> None:
    """Ranges and ages given as arguments decide."""
    write(path, text("f1", "failed", run_at=now() - 100), text("p1", run_at=now() - 100))
    file = ["--file", str(path)]
    assert main(file) == WARNING
    assert main([*file, "--failed-warning", "1"]) == OK
    assert main([*file, "--failed-within", "1min"]) == OK
    assert main([*file, "--failed-critical=~:0"]) == CRITICAL
    assert main([*file, "--failed-warning", "~:", "--overdue-after", "90"]) == WARNING
    assert main([*file, "--failed-warning", "~:", "--latency-critical", "99"]) == CRITICAL


def test_verbose_names_more(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five jobs of a kind are named, with -v twenty, and so on."""
    write(path, *(text(f"f{i}", "failed", run_at=now()) for i in range(150)))
    counts = []
    for flags in ([], ["-v"], ["-vv"], ["-vvv"], ["-vvvvv"]):
        main(["--file", str(path), "--format", "text", *flags])
        counts.append(capsys.readouterr().out.count(": failed 2"))
    assert counts == [5, 20, 100, 150, 150]


# -- which queue ---------------------------------------------------------------------------------


def told_queue(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments, "--format", "json"])
    queue = json.loads(capsys.readouterr().out)["queue"]
    assert isinstance(queue, str)
    return queue


def test_which_queue_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments before the environment before ./dbq.toml before data/queue.tsv."""
    assert told_queue(capsys) == str(tmp_path / "data" / "queue.tsv")
    make_config(tmp_path, tmp_path / "here.tsv")
    assert told_queue(capsys) == "myapp"
    monkeypatch.setenv("DBQ_FILE", "by-variable.tsv")
    assert told_queue(capsys) == str(tmp_path / "by-variable.tsv")
    assert told_queue(capsys, "--file", "by-argument.tsv") == str(tmp_path / "by-argument.tsv")
    assert told_queue(capsys, "--config", "dbq.toml") == "myapp"
    monkeypatch.setenv("DBQ_FILE", "")
    other = tmp_path / "other"
    other.mkdir()
    make_config(other, tmp_path / "there.tsv").write_text(
        '[queue]\nfile = "q.tsv"\n[worker]\nhandlers = "a:B"\n'
    )
    monkeypatch.setenv("DBQ_CONFIG", str(other / "dbq.toml"))
    assert told_queue(capsys) == "other"


def test_a_file_beside_a_config_has_its_thresholds_only(
    path: Path, tmp_path: Path, service: Service
) -> None:
    """With both, the config says what is a fault; its textfile and pings are its own queue's."""
    write(path, text("f1", "failed", run_at=now() - 100))
    config = make_config(
        tmp_path,
        tmp_path / "other.tsv",
        failed_within="1min",
        textfile=str(tmp_path / "a.prom"),
        ping_url=service.url,
    )
    assert main(["--config", str(config), "--file", str(path)]) == OK
    assert (service.requests, (tmp_path / "a.prom").exists()) == ([], False)


def test_the_queue_of_the_config_may_be_named_as_well(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--file and --config of one queue, side by side, are that queue."""
    write(path)
    config = make_config(tmp_path, path, textfile=str(tmp_path / "a.prom"))
    both = ["--file", str(path), "--config", str(config)]
    assert told_queue(capsys, *both, "--report") == "myapp"
    assert (tmp_path / "a.prom").exists()


def test_what_was_tried_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing names the queue and there is none, the places that were looked at are told."""
    assert main([]) == UNKNOWN
    out = capsys.readouterr().out
    assert re.search(r"there is no queue \S*data/queue.tsv", out)
    assert "  -> tried $DBQ_FILE, $DBQ_URL, $DBQ_CONFIG, ./dbq.toml, data/queue.tsv, /etc/" in out
    main(["--file", "x.tsv"])
    assert "-> tried" not in capsys.readouterr().out


def test_two_variables_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """$DBQ_FILE and $DBQ_CONFIG at once are a mistake, as for dbq."""
    monkeypatch.setenv("DBQ_FILE", "queue.tsv")
    monkeypatch.setenv("DBQ_CONFIG", "dbq.toml")
    assert main([]) == UNKNOWN
    assert "both $DBQ_FILE and $DBQ_CONFIG are set" in capsys.readouterr().out


def test_a_file_alone_needs_no_config(path: Path) -> None:
    """A config in the working directory, and its faults, have nothing to do with --file."""
    write(path)
    Path("dbq.toml").write_text("nonsense")
    assert main(["--file", str(path)]) == OK


def test_the_advice_names_the_queue_as_it_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands carry --file or --config with the text that the user gave."""
    write(tmp_path / "my queue.tsv", text("f1", "failed", run_at=now()))
    make_config(tmp_path, tmp_path / "my queue.tsv")
    main(["--file", "my queue.tsv"])
    assert "dbq show f1 --file 'my queue.tsv'" in capsys.readouterr().out
    main(["--config", "./dbq.toml"])
    assert "dbq show f1 --config ./dbq.toml" in capsys.readouterr().out
    monkeypatch.setenv("DBQ_FILE", "my queue.tsv")
    main([])
    assert "dbq show f1 --file 'my queue.tsv'" in capsys.readouterr().out


# -- a config ------------------------------------------------------------------------------------


def test_the_config_says_what_is_a_fault(path: Path, tmp_path: Path) -> None:
    """`[health]` of the config counts, and arguments win over it."""
    write(path, text("p1", run_at=now() - 100))
    file = make_config(tmp_path, path, overdue_after="90s")
    age(file, 300)
    config = ["--config", str(file)]
    assert main(config) == WARNING
    assert main([*config, "--overdue-after", "200"]) == OK


def test_the_config_says_what_holds_jobs_back(path: Path, tmp_path: Path) -> None:
    """A job that waits for a place of its type is not overdue, but without the config it is."""
    write(path, text("p1", run_at=now() - 1000))
    claims = TsvEngine(path).claims
    claims.path.touch()  # a worker has run just now
    file = make_config(tmp_path, path, '[types."ma*"]\nconcurrency = 1\n')
    age(file, 5000)
    assert main(["--config", str(file)]) == WARNING
    place = claims.take_of("mail", 1)
    assert main(["--config", str(file)]) == OK
    assert main(["--file", str(path)]) == WARNING
    claims.release(place or 0)


def test_a_config_without_workers_is_silent(path: Path, tmp_path: Path) -> None:
    """A config that has been there for long enough, and no worker ever: that is silence."""
    write(path)
    config = make_config(tmp_path, path)
    assert main(["--config", str(config)]) == OK
    age(config, 700)
    assert main(["--config", str(config)]) == WARNING
    assert main(["--config", str(config), "--silent-after", "1h"]) == OK


def test_a_log_that_cannot_be_written_is_a_warning(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's user is told that the log's lines go elsewhere; others cannot know."""
    write(path)
    (tmp_path / "a.log").mkdir()
    more = f'[log]\nfile = "{tmp_path}/a.log"\n'
    config = make_config(tmp_path, path, more)
    assert main(["--config", str(config)]) == OK, "no worker has tried yet"
    path.with_suffix(".claims").touch()
    assert main(["--config", str(config)]) == WARNING
    assert f"the worker cannot write its log {tmp_path}/a.log" in capsys.readouterr().out
    let_in(path.parent)
    make_config(tmp_path, path, f'user = "daemon"\n{more}')
    configs.load(config)  # imports what the child, as another user, could not
    machine_zone()
    assert in_child(lambda: main(["--config", str(config)]), user=NOBODY) == OK


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The folder of an application of `nobody`, which other users can enter."""
    let_in(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    return shared


@needs_root
def test_root_checks_as_the_worker(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root's check reads and writes what `[worker].user` could: no file of root's is left."""
    queue, textfile = shared / "queue.tsv", shared / "a.prom"
    write(queue, *lines_of(CRITICAL))
    os.chown(queue, NOBODY, NOBODY)
    queue.chmod(0o600)
    config = make_config(tmp_path, queue, 'user = "nobody"\n', textfile=str(textfile))
    age(config, 301)
    assert main(["--config", str(config), "--report"]) == CRITICAL
    assert capsys.readouterr().out.startswith("CRITICAL: 1 stuck job")
    assert textfile.stat().st_uid == NOBODY
    queue.chmod(0)
    os.chown(queue, 0, 0)
    assert main(["--config", str(config)]) == UNKNOWN
    assert "cannot read the queue" in capsys.readouterr().out


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_root_writes_nothing_for_a_third_party(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], user: str | None
) -> None:
    """A config that another user can write leads root nowhere: that is UNKNOWN, with the reason."""
    queue, textfile = shared / "queue.tsv", shared / "a.prom"
    write(queue)
    more = f'user = "{user}"\n' if user else ""
    config = make_config(tmp_path, queue, more, textfile=str(textfile))
    os.chown(config, 1, 1)
    assert main(["--config", str(config), "--report"]) == UNKNOWN
    assert "it belongs to daemon" in capsys.readouterr().out
    assert not textfile.exists()


# -- the textfile ----------------------------------------------------------------------------------


def test_the_textfile_of_the_config_and_of_the_argument(path: Path, tmp_path: Path) -> None:
    """It is written as Prometheus reads it, beside whatever is printed."""
    write(path, *lines_of(CRITICAL))
    config = str(make_config(tmp_path, path, textfile=str(tmp_path / "a.prom")))
    assert main(["--config", config, "--report"]) == CRITICAL
    assert 'dbq_stuck_jobs{queue="myapp"} 1' in (tmp_path / "a.prom").read_text()
    (tmp_path / "a.prom").unlink()
    assert main(["--config", config, "--textfile", "b.prom"]) == CRITICAL
    assert not (tmp_path / "a.prom").exists()
    assert 'dbq_stuck_jobs{queue="myapp"} 1' in (tmp_path / "b.prom").read_text()


def test_only_a_scheduled_check_reports(path: Path, tmp_path: Path, service: Service) -> None:
    """By hand, and for a second monitoring system, nothing is written and no service is called."""
    write(path)
    textfile = tmp_path / "a.prom"
    config = str(make_config(tmp_path, path, textfile=str(textfile), ping_url=service.url))
    for options in ([], ["--no-report"], ["--report", "--no-report"]):
        assert main(["--config", config, *options]) == OK
        assert (textfile.exists(), service.requests) == (False, [])


def test_entries_that_2_0_0_installed_report(path: Path, tmp_path: Path) -> None:
    """At the address that they name, the check is a scheduled one."""
    write(path)
    textfile = tmp_path / "a.prom"
    config = make_config(tmp_path, path, textfile=str(textfile))
    assert run("--config", config, capture_output=True).returncode == OK
    assert textfile.exists()


def test_a_scheduled_check_says_its_verdict_once(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is mailed to people: without performance data, and no finding twice."""
    write(path, *lines_of(CRITICAL))
    config = str(make_config(tmp_path, path))
    assert main(["--config", config, "--report"]) == CRITICAL
    out = capsys.readouterr().out
    assert out.startswith("CRITICAL: 1 stuck job, since ")
    assert out.count("1 stuck job") == 1
    assert "|" not in out
    main(["--config", config, "--report", "--format", "nagios"])
    assert capsys.readouterr().out.startswith("DBQ CRITICAL: 1 stuck job | ")


def test_a_queue_that_is_gone_is_down_in_the_textfile(path: Path) -> None:
    """Prometheus is told that the queue cannot be read."""
    assert main(["--file", str(path), "--textfile", "a.prom"]) == UNKNOWN
    assert f'dbq_up{{queue="{path}"}} 0' in Path("a.prom").read_text()


@pytest.mark.parametrize(("state", "expected"), [(OK, WARNING), (CRITICAL, CRITICAL)])
def test_a_textfile_that_cannot_be_written_is_told(
    path: Path, capsys: pytest.CaptureFixture[str], state: int, expected: int
) -> None:
    """It is a warning of its own: the queue's verdict is known all the same."""
    write(path, *lines_of(state))
    assert main(["--file", str(path), "--textfile", "nowhere/a.prom"]) == expected
    assert "cannot write nowhere/a.prom: No such file or directory" in capsys.readouterr().out


def test_nothing_else_is_written(path: Path) -> None:
    """The check makes no file and changes none."""
    write(path, *lines_of(CRITICAL))
    before = path.stat()
    assert run("--file", path, capture_output=True).returncode == CRITICAL
    assert os.listdir(path.parent) == ["queue.tsv"]
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


# -- pings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [OK, WARNING, CRITICAL])
def test_the_pings_of_a_run(path: Path, tmp_path: Path, service: Service, state: int) -> None:
    """A start, then failure when it is CRITICAL, else success, with the first line only."""
    write(path, *lines_of(state))
    config = str(make_config(tmp_path, path, ping_url=service.url))
    assert main(["--config", config, "--report"]) == state
    (start, _), (end, told) = service.pings()
    assert (start, end) == ("/abc/start", "/abc/fail" if state == CRITICAL else "/abc")
    assert told.startswith(f"DBQ {('OK', 'WARNING', 'CRITICAL')[state]}: ")
    assert "\n" not in told
    assert not [job for job in ("f1", "r1") if job in told]


def test_a_check_that_fails_is_pinged(
    path: Path, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that runs into its time-out is a failure for who is pinged, too."""
    write(path)
    config = str(make_config(tmp_path, path, ping_url=service.url))
    monkeypatch.setattr(cli_health, "check_health", lambda *_, **__: time.sleep(60))
    assert main(["--config", config, "--report", "-t", "3"]) == UNKNOWN
    assert ("/abc/fail", "DBQ UNKNOWN: no answer within 3 s") in service.pings()


def test_a_ping_that_fails_changes_nothing(path: Path, tmp_path: Path) -> None:
    """The exit code and the output are the check's; the ping's failure is told on stderr."""
    write(path)
    config = make_config(tmp_path, path, ping_url="http://127.0.0.1:9/secret")
    done = run("--config", config, capture_output=True)
    assert done.returncode == OK
    assert done.stdout.startswith("OK: ")
    assert "the start ping to 127.0.0.1 failed" in done.stderr
    assert "secret" not in done.stderr + done.stdout
