"""The command `dbq report`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_app import dbq, queue_of
from redis_server import RedisServer

from dbbasic_queue import Queue
from dbbasic_queue.install.site import delete_own

CONFIG = """
name = "shop"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[types."mail.*"]
redact = ["token"]
[report]
file = "queue.html"
"""


def failing(app: Path) -> None:
    queue = queue_of(app)
    queue.enqueue("mail.send", {"token": "open-sesame", "to": "zoe"}, job_id="m1")

    def bad(payload: dict[str, str]) -> None:
        raise ValueError(f"no {payload['token']}")

    queue.process_jobs({"mail.send": bad}, max_attempts=1)


def test_a_report_is_printed_or_written(app: Path) -> None:
    """The same page; in any locale it is the UTF-8 that it says it is."""
    failing(app)
    printed = dbq("report", cwd=app, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert printed.returncode == 0
    assert printed.stdout.startswith("<!doctype html>")
    done = dbq("report", "--output", "a.html", cwd=app)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "<title>CRITICAL" not in (text := (app / "a.html").read_text("utf-8"))
    assert "dbq retry --type mail.send --error " in re.sub("</?span>", "", text)


def test_a_report_hides_what_the_config_hides(app: Path) -> None:
    """In errors always; in payloads, where they are shown at all."""
    failing(app)
    (app / "dbq.toml").write_text(CONFIG)
    text = dbq("report", "--payloads", cwd=app).stdout
    assert "zoe" in text
    assert "sesame" not in text
    assert "zoe" not in dbq("report", cwd=app).stdout


def test_the_clock_writes_where_the_config_says(app: Path) -> None:
    """Also before there is a queue; not where it is off, and not without [report]."""
    (app / "dbq.toml").write_text(CONFIG)
    done = dbq("report", "--scheduled", cwd=app)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "there is no queue" in (app / "queue.html").read_text("utf-8")
    failing(app)
    (app / "dbq.toml").write_text(f"{CONFIG}payloads = true\n")
    assert dbq("report", "--scheduled", cwd=app).returncode == 0
    text = (app / "queue.html").read_text("utf-8")
    assert "<title>WARNING: shop</title>" in text
    assert "zoe" in text
    (app / "queue.html").unlink()
    (app / "dbq.toml").write_text(f"{CONFIG}enabled = false\n")
    assert "off, by enabled = false in" in dbq("report", "--scheduled", cwd=app).stdout
    assert not (app / "queue.html").exists()
    (app / "dbq.toml").write_text(CONFIG.partition("[report]")[0])
    done = dbq("report", "--scheduled", cwd=app)
    assert (done.returncode, "has no [report]" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "none/a.html"), "cannot write none/a.html: No such file or directory"),
        (("--scheduled", "--output", "a.html"), "leave out --output"),
        (("--file", "typo.tsv"), "typo.tsv (--file); the first"),
    ],
    ids=("folder", "both", "queue"),
)
def test_mistakes_are_told(app: Path, words: tuple[str, ...], said: str) -> None:
    """In one line, with exit code 2; no page is printed."""
    failing(app)
    (app / "dbq.toml").write_text(CONFIG)
    done = dbq("report", *words, cwd=app)
    assert (done.returncode, done.stdout, said in done.stderr) == (2, "", True)


def test_a_queue_on_a_server_is_reported(app: Path, server: RedisServer) -> None:
    """Without the password of its address."""
    url = server.url("report", "secret")
    Queue(url).enqueue("ok", {})
    done = dbq("report", cwd=app, env={"DBQ_URL": url})
    assert done.returncode == 0
    assert "secret" not in done.stdout
    assert 'data-l="Pending" class="r">1</td>' in done.stdout


def test_a_removal_takes_the_page_along(app: Path) -> None:
    """It would go on saying how the queue once was; a page of another's stays."""
    (app / "dbq.toml").write_text(CONFIG)
    page = app / "queue.html"
    for prepare in (lambda: None, lambda: failing(app)):  # without a queue, and with one
        prepare()
        dbq("report", "--scheduled", cwd=app)
        assert page.exists()
        delete_own(page)
        assert not page.exists()
    page.write_text("<!doctype html>\n<title>shop</title>\n")
    delete_own(page)
    assert page.exists()
