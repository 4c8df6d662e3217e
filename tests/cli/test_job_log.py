"""The command `dbq log`: what the worker's log has of one job, its handler's own words included."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from cli_app import dbq, queue_of
from redis_server import RedisServer

from dbbasic_queue import Queue, read_log
from dbbasic_queue.cli import job_log

CONFIG = """
name = "app"
[queue]
QUEUE
[worker]
handlers = "talk:HANDLERS"
max_attempts = 1
[log]
file = "work.log"
"""
TALK = """
import logging, threading
from dbbasic_queue import current_job

log = logging.getLogger("shop.talk")
SET_UP

def talk(payload):
    log.warning("says %s", payload["word"])
    helper = threading.Thread(target=log.error, args=("a helper says %s", payload["word"]))
    helper.start()
    helper.join()
    try:
        raise ValueError("no such word")
    except ValueError:
        log.exception("cannot say it")
    log.debug("unheard")

HANDLERS = {"talk": talk}
"""
SET_UPS = {
    "nothing": "",
    "basic": "logging.basicConfig(format='app: %(message)s')",
    "dict": "import logging.config\nlogging.config.dictConfig({'version': 1,"
    " 'root': {'level': 'WARNING'}, 'disable_existing_loggers': False})",
    "own": "log.propagate = False\nlog.addHandler(logging.NullHandler())",
}


def write(app: Path, queue: str = 'file = "data/queue.tsv"', set_up: str = "") -> None:
    (app / "dbq.toml").write_text(CONFIG.replace("QUEUE", queue))
    (app / "talk.py").write_text(TALK.replace("SET_UP", set_up))


@pytest.fixture
def home(app: Path) -> dict[str, str]:
    return {"HOME": str(app), "XDG_CONFIG_HOME": str(app / "none")}


@pytest.mark.parametrize("set_up", SET_UPS)
def test_what_a_handler_logs_is_in_the_log(app: Path, home: dict[str, str], set_up: str) -> None:
    """Also what its threads log, however the application sets up its logging; of one job alone."""
    write(app, set_up=SET_UPS[set_up])
    queue = queue_of(app)
    for word in ("one", "two"):
        queue.enqueue("talk", {"word": word}, job_id=f"job-{word}")
    assert dbq("work", cwd=app, env=home).returncode == 0
    done = dbq("log", "job-one", cwd=app, env=home)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    said = [line.split("] ", 1)[1] for line in lines if not line.startswith(" ")]
    assert said[:4] == [
        "started talk job-one, attempt 1",
        "shop.talk job-one: says one",
        "shop.talk job-one: a helper says one",
        "shop.talk job-one: cannot say it",
    ]
    assert said[4].startswith("completed talk job-one in ")
    assert len(said) == 5
    assert "    ValueError: no such word" in lines


def test_the_applications_own_log_gets_the_job(app: Path, home: dict[str, str]) -> None:
    """Its format may name `job_id` and `job_type`, and what it puts there itself is kept."""
    set_up = (
        "logging.basicConfig(format='%(job_type)s %(job_id)s %(message)s')\n"
        "def own(payload):\n"
        "    log.warning('with its own', extra={'job_id': 'mine'})\n"
    )
    write(app, set_up=set_up)
    text = (app / "talk.py").read_text()
    (app / "talk.py").write_text(text.replace('{"talk": talk', '{"own": own, "talk": talk'))
    queue_of(app).enqueue("talk", {"word": "one"}, job_id="job-one")
    queue_of(app).enqueue("own", {}, job_id="job-own")
    said = dbq("work", cwd=app, env=home).stderr
    assert "talk job-one says one\n" in said
    assert "own mine with its own\n" in said
    assert "ValueError: no such word\n" in said
    assert "    ValueError" not in said  # which is how the worker's log has it
    assert "shop.talk job-own: with its own\n" in dbq("log", "job-own", cwd=app, env=home).stdout


def test_without_a_log_file_what_no_one_takes_is_heard(app: Path, home: dict[str, str]) -> None:
    """On standard error a handler's record is told once: by the application, or by the worker."""
    for set_up, wanted in (
        ("nothing", "shop.talk job-one: says one\n"),
        ("basic", "app: says one"),
    ):
        write(app, set_up=SET_UPS[set_up])
        queue_of(app).enqueue("talk", {"word": "one"}, job_id="job-one")
        said = dbq("work", "--log-file", "-", cwd=app, env=home).stderr
        assert wanted in said
        assert said.count("says one\n") == 2  # the handler and its helper
        queue_of(app).prune_jobs(0)


def test_quiet_is_quiet_of_handlers_too(app: Path, home: dict[str, str]) -> None:
    """The level of the worker's log holds for what handlers log."""
    write(app, set_up="logging.getLogger().setLevel('DEBUG')")
    queue_of(app).enqueue("talk", {"word": "one"}, job_id="job-one")
    dbq("work", "--quiet", cwd=app, env=home)
    text = (app / "work.log").read_text()
    assert ("says one" in text, "unheard" in text, "started" in text) == (True, False, False)


def test_json_is_one_object_a_record(app: Path, home: dict[str, str]) -> None:
    """The same of a log that is text and of one that is JSON."""
    write(app)
    queue_of(app).enqueue("talk", {"word": "one"}, job_id="job-one")
    dbq("work", cwd=app, env=home)
    queue_of(app).enqueue("talk", {"word": "two"}, job_id="job-two")
    dbq("work", "--log-format", "json", cwd=app, env=home)
    found = {}
    for name in ("one", "two"):
        done = dbq("log", f"job-{name}", "--json", cwd=app, env=home)
        found[name] = list(map(json.loads, done.stdout.splitlines()))
        assert [each["level"] for each in found[name]] == [
            *("info", "warning", "error", "error", "info"),
        ]
        assert all(each["time"].endswith("Z") and each["pid"] for each in found[name])
        assert found[name][3]["traceback"].startswith("Traceback (most recent call last):\n  File")
    one, two = found["one"][1], found["two"][1]
    assert one["message"] == "shop.talk job-one: says one"
    assert (two["message"], two["logger"], two["job_id"]) == ("says two", "shop.talk", "job-two")
    assert two["job_type"] == "talk"


def test_rotated_logs_are_read(app: Path, home: dict[str, str]) -> None:
    """The oldest first, compressed or not, by number or date; what only begins alike is not."""
    write(app)
    with gzip.open(app / "work.log.2.gz", "wb") as stream:
        stream.write(b"1 INFO job-1 first\n    its traceback\n")
    (app / "work.log-20260101").write_text("2 INFO job-1 second\n2 INFO job-10 another\n")
    with gzip.open(app / "work.log-20260101.gz", "wb") as stream:
        stream.write(b"2 INFO job-1 sec")  # it is being made just now
    # Logrotate found a log where it wanted to make the new one.
    (app / "work.log-2026010107.backup").write_text("3 INFO job-1 third\n")
    (app / "work.log").write_text("3 INFO job-1 fourth\n")
    (app / "work.log.orig").write_text("4 INFO job-1 of another file\n")
    parts = ("work.log", "work.log-2026010107.backup", "work.log-20260101", "work.log.2.gz")
    for age, name in enumerate(parts):
        os.utime(app / name, (1_700_000_000 - age, 1_700_000_000 - age))
    expected = [
        "1 INFO job-1 first\n    its traceback",
        "2 INFO job-1 second",
        "3 INFO job-1 third",
        "3 INFO job-1 fourth",
    ]
    assert read_log(app / "work.log", "job-1") == expected
    queue_of(app).enqueue("talk", {}, job_id="other")
    done = dbq("log", "job-1", cwd=app, env=home)  # which was pruned long ago
    assert (done.returncode, done.stdout) == (0, "\n".join(expected) + "\n")


def test_what_is_not_there_is_said(app: Path, home: dict[str, str]) -> None:
    """No record of the job: 1. No log that could have one, or not an id: 2."""
    write(app)
    queue_of(app).enqueue("talk", {"word": "one"}, job_id="job-one")
    done = dbq("log", "job-one", cwd=app, env=home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"dbq: the log {app}/work.log has nothing of job job-one\n"
    done = dbq("log", "job", cwd=app, env=home)
    assert (done.returncode, "has nothing of job job-one" in done.stderr) == (1, True)
    done = dbq("log", "none", cwd=app, env=home)
    assert (done.returncode, "there is no job none in" in done.stderr) == (1, True)
    assert dbq("log", "no id", cwd=app, env=home).returncode == 2
    (app / "work.log.1.gz").write_text("not compressed")
    done = dbq("log", "job-one", cwd=app, env=home)
    assert (done.returncode, "work.log.1.gz cannot be decompressed" in done.stderr) == (2, True)
    text = (app / "dbq.toml").read_text()
    (app / "dbq.toml").write_text(text.partition("[log]")[0])
    done = dbq("log", "job-one", cwd=app, env=home)
    assert (done.returncode, "journalctl --grep job-one" in done.stderr) == (2, True)
    (app / "other.log").write_text("1 INFO job-one\n")
    done = dbq("log", "job-one", "--log-file", "other.log", cwd=app, env=home)
    assert (done.returncode, done.stdout) == (0, "1 INFO job-one\n")


def test_a_link_in_the_place_of_a_log_is_not_followed(app: Path, home: dict[str, str]) -> None:
    """As no other file of a queue's is: the user whose log it is could lead another's command."""
    write(app)
    (app / "secret").write_text("1 INFO job-one\n")
    (app / "work.log.1").symlink_to(app / "secret")
    done = dbq("log", "job-one", cwd=app, env=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is a symbolic link" in done.stderr


def test_what_stands_in_a_log_does_not_steer_the_terminal(app: Path, home: dict[str, str]) -> None:
    """Control characters are escaped, whatever wrote the file."""
    write(app)
    (app / "work.log").write_bytes(b"1 INFO job-one \x1b[2J\xff\n")
    assert "job-one \\x1b[2J" in dbq("log", "job-one", cwd=app, env=home).stdout


def test_on_a_server_it_is_the_log_of_this_machine(
    app: Path, home: dict[str, str], server: RedisServer
) -> None:
    """As in a file; a part of an id will do as long as the queue has the job."""
    url = server.url("log", "secret")
    write(app, queue=f'url = "{url}"')
    job_id = Queue(url).enqueue("talk", {"word": "one"})
    assert dbq("work", cwd=app, env=home).returncode == 0
    done = dbq("log", job_id[-6:], cwd=app, env=home)
    assert f"shop.talk {job_id}: says one\n" in done.stdout


def test_a_line_of_another_program_is_a_message(tmp_path: Path) -> None:
    """One whose time cannot be has none, in the JSON."""
    line = "2026-13-45 25:61:61,000 INFO [1] mh3k9x2a7d4c30qz"
    assert job_log.as_dict(line) == {"message": line}
