"""`dbq` and `dbq-health` on a queue that a server keeps: the same commands, the same answers."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from cli_app import dbq, wait_for
from parties import needs_root, open_place
from redis_server import RedisServer, contents, program

from dbbasic_queue import Queue, Unsupported, enqueue, get_job
from dbbasic_queue.cli import health as health_command
from dbbasic_queue.cli.health import checker
from dbbasic_queue.cli.health import main as health
from dbbasic_queue.cli.slots import ServerSlots
from dbbasic_queue.config.sections import load
from dbbasic_queue.health import judge
from dbbasic_queue.health.report import Expectation
from dbbasic_queue.schedule.recurring import Verdict, catch_up, enqueue_slot
from dbbasic_queue.schedule.schedule import Schedule

SECRET = "secret"
COUNT = iter(range(1, 1000))


@pytest.fixture
def url(server: RedisServer) -> str:
    """A queue without jobs, by an address that holds a password."""
    return server.url(f"cli-{os.getpid()}-{next(COUNT)}", SECRET)


@pytest.fixture
def here(app: Path, url: str) -> Path:
    """The application's folder, with a config of the queue whose address is in a file."""
    (app / "url").write_text(url + "\n")
    (app / "url").chmod(0o600)
    (app / "dbq.toml").write_text(
        'name = "shop"\n[queue]\nurl_file = "url"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
        '[prune]\ncompleted = "0s"\nschedule = "* * * * *"\n'
        '[[recurring]]\nname = "tick"\ntype = "ok"\nschedule = "* * * * *"\n'
        '[health]\ntextfile = "dbq.prom"\n'
    )
    return app


def test_a_job_from_its_order_to_its_end(app: Path, url: str) -> None:
    """Added, listed, run, shown, retried, cancelled and pruned, each as on a file."""
    env = {"DBQ_URL": url}
    job = dbq("enqueue", "ok", '{"a": 1}', cwd=app, env=env).stdout.strip()
    failing = dbq("enqueue", "bad", "--id", "order-1", cwd=app, env=env).stdout.strip()
    later = dbq("enqueue", "ok", "--in", "1h", cwd=app, env=env).stdout.strip()
    assert len(dbq("list", cwd=app, env=env).stdout.splitlines()) == 4
    work = dbq("work", "jobs:HANDLERS", "--max-attempts", "1", cwd=app, env=env)
    assert work.returncode == 0, work.stderr
    shown = json.loads(dbq("show", job[-6:], "--json", cwd=app, env=env).stdout)
    assert (shown["status"], shown["result"], shown["attempts"]) == ("completed", {"a": 1}, 1)
    assert "ValueError: no such user" in dbq("show", failing, cwd=app, env=env).stdout
    assert dbq("retry", "--failed", cwd=app, env=env).stdout == "pending order-1\n"
    assert dbq("cancel", later, "none", cwd=app, env=env).returncode == 1
    stats = json.loads(dbq("stats", "--json", cwd=app, env=env).stdout)
    assert stats["jobs"] == {
        "pending": 1,
        "processing": 0,
        "completed": 1,
        "failed": 0,
        "cancelled": 1,
    }
    assert dbq("prune", "--older-than", "0s", cwd=app, env=env).stdout == "removed 2 jobs\n"


@pytest.mark.parametrize(
    "words",
    [("edit",), ("fsck",), ("fsck", "--repair"), ("backup", "b.tar"), ("restore", "b.tar")],
    ids=" ".join,
)
def test_what_only_a_file_can_is_refused(app: Path, url: str, words: tuple[str, ...]) -> None:
    """Exit code 2, and one line that says what to do instead."""
    done = dbq(*words, cwd=app, env={"DBQ_URL": url})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"dbq: \w+: redis://\S+ is not a file: .*dbq \w+.*\n", done.stderr)


def test_a_queue_has_no_path(url: str) -> None:
    """The library says so, too."""
    with pytest.raises(Unsupported, match="is not in a file"):
        Queue(url).path  # noqa: B018


def test_the_default_queue(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the module go by $DBQ_URL."""
    monkeypatch.delenv("DBQ_FILE", raising=False)
    monkeypatch.setenv("DBQ_URL", url)
    job = enqueue("ok", {"a": 1})
    assert get_job(job) == Queue(url).get_job(job)


def test_a_config_names_the_server(here: Path, url: str) -> None:
    """Commands take the address from url_file, and no output has its password."""
    job = dbq("enqueue", "ok", cwd=here)
    assert job.returncode == 0, job.stderr
    assert Queue(url).get_job(job.stdout.strip())
    said = [dbq(*words, cwd=here) for words in (["list"], ["work"], ["check"], ["edit"], ["stats"])]
    assert not any(SECRET in each.stdout + each.stderr for each in said)
    check = said[2]  # what it says of the installers is this machine's affair
    assert re.search(r"^queue: redis://127\S+\?name=cli-", check.stdout, re.MULTILINE)
    assert re.search(
        r"^server: (Redis|Valkey) [0-9.]+, with \d+ worker", check.stdout, re.MULTILINE
    )


def test_one_machine_does_what_is_scheduled(here: Path, url: str) -> None:
    """Of two machines that ask for one slot, the second is told that it is dealt with."""
    config = here / "dbq.toml"
    config.write_text(config.read_text().replace('"* * * * *"', '"0 * * * *"', 1))
    began = time.time()
    queue = Queue(url)
    queue.enqueue("ok", {})
    dbq("work", cwd=here)
    first, second = (dbq("prune", "--scheduled", cwd=here) for _ in range(2))
    if began // 3600 == time.time() // 3600:  # no hour, and so no slot, has begun in between
        assert first.stdout == "removed 1 job\n"
        assert second.stdout.startswith("removed before: another machine")
    minute = time.time() // 60
    asked = [dbq("enqueue-recurring", "tick", cwd=here) for _ in range(3)]
    assert [each.returncode for each in asked] == [0, 0, 0]
    made = [each for each in asked if re.fullmatch(r"shop_tick_\d{8}T\d{4}Z\n", each.stdout)]
    assert asked[0] in made
    assert queue.count_jobs()["pending"] == len({each.stdout for each in made}) == len(made)
    assert all(each in made or "was enqueued before" in each.stdout for each in asked)
    if minute == time.time() // 60:
        assert len(made) == 1


def test_of_two_that_ask_at_once_one_enqueues(here: Path, url: str) -> None:
    """One that asked before the other had its answer is told by the server, in the same words."""

    class AskedBefore(ServerSlots):
        def slots(self) -> dict[str, int]:
            return {}

    queue, jobs = Queue(url), load(here / "dbq.toml").recurring_jobs
    now = queue.now()
    askers = [AskedBefore(queue) for _ in range(3)]
    found = [enqueue_slot(jobs, "tick", queue.enqueue, now, each).verdict for each in askers]
    assert found == [Verdict.ENQUEUED, Verdict.KNOWN, Verdict.KNOWN]
    assert queue.count_jobs()["pending"] == 1
    assert catch_up(jobs, queue.enqueue, now + 86_400, ServerSlots(queue)) == []


def test_a_worker_that_cannot_begin_does_not_end_at_once(app: Path) -> None:
    """What starts it again each second would fill the journal."""
    from cli_app import start

    worker = start("work", "jobs:HANDLERS", "--forever", "--url", "nowhere://h", cwd=app)
    assert worker.stderr is not None
    first = [worker.stderr.readline() for _ in range(2)]
    assert "there is no engine for nowhere" in first[0]
    assert "ends in 30 s" in first[1]
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(2)
    worker.terminate()
    assert worker.wait(30) == -15


def test_workers_that_run_forever(app: Path, url: str) -> None:
    """One takes a job as it comes, is known to the check by its host and handlers, and stops."""
    from cli_app import start

    worker = start("work", "jobs:HANDLERS", "--forever", "--url", url, cwd=app)
    queue = Queue(url)
    job = queue.enqueue("ok", {})
    wait_for(lambda: (queue.get_job(job) or {})["status"] == "completed")
    report = json.loads(dbq("check", "--json", cwd=app, env={"DBQ_URL": url}).stdout)
    assert report["server"]["workers"] == 1
    worker.terminate()
    assert worker.wait(30) == 0


def test_a_password_on_the_command_line_is_told(app: Path, url: str) -> None:
    """All users see the list of processes."""
    done = dbq("list", "--url", url, cwd=app)
    assert "stands in the list of processes" in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_a_queue_that_was_moved(app: Path, url: str) -> None:
    """The check says where its jobs are now."""
    Queue(url).engine.close_for("redis://:secret@new/0")
    done = dbq("check", "--url", url, cwd=app)
    assert done.returncode == 2
    assert "moved to redis://:***@new/0" in done.stderr
    assert SECRET not in done.stderr


def test_a_large_payload_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server keeps all of it in memory: from 64 KiB on there is a warning, up to 1 MiB a job."""
    queue = Queue(url)
    queue.enqueue("ok", {"text": "x" * 60_000})
    assert not [each for each in caplog.records if each.levelname == "WARNING"]
    job = queue.enqueue("ok", {"text": "x" * 70_000})
    assert f"the payload of job {job} has 68 KiB" in caplog.text
    assert queue.get_job(job)


def test_processes_that_reach_no_server_say_so_in_a_line(app: Path) -> None:
    """Without a traceback, which cron would mail each minute."""
    away = ("--url", "redis://127.0.0.1:1/0", "--concurrency", "2")
    done = dbq("work", "jobs:HANDLERS", *away, cwd=app)
    assert done.returncode == 2
    assert done.stderr.count("failed: cannot reach redis://127.0.0.1:1/0") == 2
    assert "Traceback" not in done.stderr


def test_a_socket(server: RedisServer, app: Path, tmp_path: Path) -> None:
    """A server on the same machine can be reached by its socket."""
    import redis

    with RedisServer(tmp_path / "redis", unixsocket=str(tmp_path / "r.sock")) as local:
        assert redis.Redis(port=local.port).ping()
        address = f"unix://{tmp_path}/r.sock?name=shop"
        words = ("--url", address, "--durability", "normal")
        job = dbq("enqueue", "ok", *words, cwd=app)
        assert job.returncode == 0, job.stderr
        assert dbq("work", "jobs:HANDLERS", *words, cwd=app).returncode == 0
        job_id = job.stdout.strip()
        shown = json.loads(dbq("show", job_id, "--json", "--url", address, cwd=app).stdout)
        assert shown["status"] == "completed"


@needs_root
def test_root_asks_as_the_worker_s_user(server: RedisServer, url: str) -> None:
    """The file of the address is that user's alone, and root reads it as no other does."""
    with open_place() as folder:
        (folder / "url").write_text(url)
        (folder / "url").chmod(0o600)
        os.chown(folder / "url", *(pwd.getpwnam("daemon")[2:4]))
        (folder / "jobs.py").write_text("HANDLERS = {}")
        (folder / "dbq.toml").write_text(
            'name = "shop"\n[queue]\nurl_file = "url"\n[worker]\nuser = "daemon"\n'
            'handlers = "jobs:HANDLERS"\npython = "/usr/bin/python3"\n'
        )
        job = dbq("enqueue", "ok", cwd=folder)
        assert job.returncode == 0, job.stderr
        for words in (["list"], ["stats"], ["show", job.stdout.strip()], ["cancel", "none"]):
            done = dbq(*words, cwd=folder)
            assert "Traceback" not in done.stderr, done.stderr
            assert done.returncode == (words[0] == "cancel")
        assert re.search("^server: (Redis|Valkey) ", dbq("check", cwd=folder).stdout, re.MULTILINE)
        assert health(["--config", str(folder / "dbq.toml")]) in (0, 1)


# -- health ----------------------------------------------------------------------------------------


def test_numbers_of_a_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What only a server has is there, and what only a file has is not."""
    Queue(url).enqueue("ok", {})
    assert health(["--url", url, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["jobs"]["pending"], report["ready"], report["lease"]) == (1, 1, 60)
    assert report["engine_bytes"] > 0
    assert not {"size", "malformed", "file"} & report.keys()
    assert SECRET not in report["url"]
    assert health(["--url", url, "--format", "prometheus"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^dbq_engine_up\{.*\} 1$", out, re.MULTILINE)
    assert "dbq_file_size_bytes" not in out
    assert "dbq_malformed_lines" not in out
    assert SECRET not in out


def test_looking_changes_nothing(server: RedisServer, url: str) -> None:
    """A dump of all keys before the check equals one after it."""
    import redis

    queue = Queue(url)
    queue.enqueue("ok", {})
    queue.enqueue("bad", {}, job_id="b")
    queue.process_jobs({"ok": lambda p: 1}, max_attempts=1)
    client = redis.Redis(port=server.port, password=SECRET)

    before = contents(client)
    assert health(["--url", url]) == 1
    assert contents(client) == before


def test_a_server_that_is_away(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNKNOWN at first; CRITICAL once the textfile says that it has been so for too long."""
    monkeypatch.chdir(here)
    assert health(["--report"]) in (0, 1)
    text = (here / "dbq.prom").read_text()
    assert re.search(r"^dbq_engine_up\{queue=\"shop\"\} 1$", text, re.MULTILINE)
    (here / "url").write_text("redis://:secret@127.0.0.1:1/0\n")
    capsys.readouterr()
    assert health(["--report"]) == 3
    assert capsys.readouterr().out.startswith("UNKNOWN: the server of the queue cannot be asked")
    text = (here / "dbq.prom").read_text()
    assert re.search(r"^dbq_engine_up\{queue=\"shop\"\} 0$", text, re.MULTILINE)
    aged = re.sub(r"(last_contact\S+) \d+", r"\1 1000", text)
    assert aged != text  # the last contact is kept while the server is away
    (here / "dbq.prom").write_text(aged)
    assert health(["--report"]) == 2
    assert SECRET not in capsys.readouterr().out


def test_a_server_that_is_away_for_long_by_a_textfile_of_the_command_line(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A monitoring system that has no config remembers the last contact there."""
    textfile = tmp_path / "dbq.prom"
    assert health(["--url", url, "--textfile", str(textfile)]) in (0, 1)
    away = ["--url", "redis://127.0.0.1:1/0", "--textfile", str(textfile)]
    assert health(away) == 3
    textfile.write_text(re.sub(r"(last_contact\S+) \d+", r"\1 1000", textfile.read_text()))
    assert health(away) == 2
    assert "CRITICAL: the server of the queue cannot be asked" in capsys.readouterr().out


def _with_notify_alone(here: Path) -> Path:
    """Change the config to one that has no textfile; returns what [notify] remembers by."""
    config = here / "dbq.toml"
    notify = '[notify]\ncommand = ["true"]\nremember = "dbq.notified"\n'
    config.write_text(config.read_text().replace('textfile = "dbq.prom"\n', notify))
    return here / "dbq.notified"


def _age(file: Path) -> None:
    """Let it say that the server was last reached long ago."""
    text = file.read_text()
    aged = re.sub(r"^\d+(\t.*\tREACHED\t)", r"1000\1", text, flags=re.MULTILINE)
    assert aged != text
    file.write_text(aged)


def test_a_server_that_is_away_for_long_by_the_file_of_notify(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a textfile, that file tells; also a check that does not report."""
    monkeypatch.chdir(here)
    file = _with_notify_alone(here)
    assert health(["--config", "dbq.toml"]) in (0, 1)
    assert not file.exists()  # only the scheduled check may write
    assert health(["--report"]) in (0, 1)
    (here / "url").write_text("redis://:secret@127.0.0.1:1/0\n")
    assert health(["--report"]) == 3
    _age(file)
    capsys.readouterr()
    assert health(["--report"]) == 2
    assert "CRITICAL: the server of the queue cannot be asked" in capsys.readouterr().out
    assert health(["--config", "dbq.toml"]) == 2
    said = sorted(line.split("\t")[2:] for line in file.read_text().splitlines()[1:])
    assert said == [["CRITICAL", "command"], ["REACHED", "the queue's server"]]


def test_a_server_that_is_back_is_written_down_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what was said; what was written of another time, or cannot be read, does no harm."""
    monkeypatch.chdir(here)
    file = _with_notify_alone(here)
    file.write_text("1000\t\tREACHED\tthe queue's server\n2000\t\tWARNING\tanother\n")
    health(["--report"])
    assert file.read_text().count("\tWARNING\tanother\n") == 1
    (here / "url").write_text("redis://127.0.0.1:1/0\n")
    assert health(["--report"]) == 3  # it was reached a moment ago
    file.unlink()
    file.mkdir()
    assert health(["--config", "dbq.toml"]) == 3


@pytest.mark.skipif(program() is None, reason="no redis-server and no valkey-server")
def test_a_view_remembers_when_it_reached_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks again and again needs no file for that."""
    monkeypatch.setattr(judge, "PATIENCE", 0.1)
    with RedisServer(tmp_path / "redis") as server:
        check, _ = checker(argparse.Namespace(file=None, config=None, url=server.url()))
        assert check().state in (0, 1)
    (away,) = check().findings
    assert (away.kind, away.state) == ("engine", 3)
    later = partial(judge.check_health, clock=lambda: time.time() + 3600)
    monkeypatch.setattr(health_command, "check_health", later)
    (away,) = check().findings
    assert (away.kind, away.state) == ("engine", 2)


def test_a_machine_without_workers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some should run all the time, it is a warning, once they have had time to start."""
    monkeypatch.setattr("dbbasic_queue.health.look.RESTART", 0)
    always = Expectation(0, Schedule.parse("* * * * *"), always=True)

    def found(uptime: float) -> list[str]:
        report = judge.check_health(url, expected=always, uptime=lambda: uptime)
        return [finding.kind for finding in report.findings]

    assert found(86_400) == ["silent", "workers"]
    assert found(60) == []
    seat = Queue(url).engine.seat()
    assert seat is not None
    assert found(86_400) == []
    seat.leave()


@pytest.mark.skipif(program() is None, reason="no redis-server and no valkey-server")
def test_a_server_that_loses_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No append-only file, an evicting policy and little memory left are told with the remedy."""
    settings = {"appendonly": "no", "maxmemory_policy": "allkeys-lru", "maxmemory": "1100000"}
    with RedisServer(tmp_path / "redis", **settings) as server:
        assert health(["--url", server.url(), "--format", "text"]) >= 1
        out = capsys.readouterr().out
        assert "appendonly yes" in out
        assert "maxmemory-policy noeviction" in out
        assert re.search(r"(WARNING|CRITICAL): the server uses \d+ % of the memory", out)
        done = dbq("check", "--url", server.url(), cwd=tmp_path)
        assert done.returncode == 2
        assert "add to the server's configuration: appendonly yes" in done.stderr
