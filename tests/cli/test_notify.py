"""`[notify]`: who is told when the verdict of the scheduled check changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_app import dbq, queue_of
from ping_service import Service

from dbbasic_queue.cli import health
from dbbasic_queue.health.notify import Said, occasion

CONFIG = """
name = "shop"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[health]
[notify]
"""
PAGE = """
import json, sys
message = json.loads(sys.stdin.read())
with open("told", "a") as file:
    file.write(json.dumps(message) + "\\n")
sys.exit(int(open("code").read()))
"""


@pytest.fixture
def shop(app: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application with a queue, and a program that is told."""
    monkeypatch.chdir(app)
    (app / "page.py").write_text(PAGE)
    (app / "code").write_text("0")
    queue_of(app).enqueue("ok", {})
    dbq("work", "jobs:HANDLERS", cwd=app)
    return app


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that Apprise tells."""
    with Service() as server:
        yield server


def configure(shop: Path, more: str = "") -> None:
    command = f'command = ["{sys.executable}", "page.py"]\n'
    (shop / "dbq.toml").write_text(CONFIG + command + more)


def told(shop: Path) -> list[dict[str, Any]]:
    """What the program was told so far."""
    path = shop / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check(*options: str) -> int:
    """Run the check as the schedule does."""
    return health.main(["--config", "dbq.toml", "--report", *options])


def fail_one(shop: Path) -> str:
    """Let a job fail; returns its id."""
    job_id = queue_of(shop).enqueue("bad", {"card": "1234"})
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", cwd=shop)
    return job_id


def test_it_is_told_when_the_verdict_changes_and_clears(shop: Path) -> None:
    """Once each, by the scheduled check only; never a payload."""
    configure(shop)
    assert check() == 0
    assert told(shop) == []
    job_id = fail_one(shop)
    assert health.main(["--config", "dbq.toml"]) == 1  # a person looks
    assert told(shop) == []
    for _ in range(2):
        assert check() == 1
    (message,) = told(shop)
    assert (message["why"], message["before"], message["state"]) == ("changed", "OK", "WARNING")
    assert (message["queue"], job_id in json.dumps(message)) == ("shop", True)
    assert "1234" not in json.dumps(message)
    queue_of(shop).retry_job(job_id)
    queue_of(shop).cancel_job(job_id)
    assert check() == 0
    assert [each["why"] for each in told(shop)] == ["changed", "cleared"]
    assert check() == 0
    assert len(told(shop)) == 2


def test_again_after_a_while(shop: Path) -> None:
    """And what was said stands in a plain file, which may be deleted."""
    configure(shop, 'repeat = "1h"\n')
    fail_one(shop)
    check()
    file = shop / "data/queue.notified"
    note, line = file.read_text().splitlines()
    assert note.startswith("# What [notify] of dbq.toml has said last")
    at, _, state, name = line.split("\t")
    assert (state, name) == ("WARNING", "command")
    file.write_text(f"{note}\nnonsense\n{int(at) - 3601}\t\tWARNING\tcommand\n")
    check()
    assert [each["why"] for each in told(shop)] == ["changed", "again"]
    file.unlink()
    check()
    assert [each["why"] for each in told(shop)] == ["changed", "again", "changed"]


def test_what_did_not_arrive_is_told_by_the_next_check(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that fails is logged, and the verdict is what it is."""
    configure(shop)
    fail_one(shop)
    (shop / "code").write_text("3")
    assert check() == 1
    assert "[notify] command:" in caplog.text
    assert "ended with exit status 3" in caplog.text
    (shop / "code").write_text("0")
    assert check() == 1
    assert [each["why"] for each in told(shop)] == ["changed", "changed"]
    assert check() == 1
    assert len(told(shop)) == 2


def test_payloads_if_the_config_says_so(shop: Path) -> None:
    """Those of the jobs that are named."""
    configure(shop, "payloads = true\n")
    job_id = fail_one(shop)
    check()
    (finding,) = (each for each in told(shop)[0]["findings"] if each["kind"] == "failed")
    assert [(each["id"], each["payload"]) for each in finding["named"]] == [
        (job_id, {"card": "1234"})
    ]


def test_services_are_told_by_apprise(
    shop: Path, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Each on its own; a fault does not tell the secrets of its URL."""
    pytest.importorskip("apprise")
    place = service.url.removeprefix("http://")
    configure(shop, f'urls = ["json://zoe:hidden@{place}"]\n')
    fail_one(shop)
    service.status = 500
    check()
    assert "hidden" not in caplog.text
    assert "[notify] json " in caplog.text
    service.status = 200
    service.requests.clear()
    check()
    check()
    ((_, body),) = service.pings()
    sent = json.loads(body)
    assert sent["title"] == "dbq shop: WARNING"
    assert "1 failed" in sent["message"]
    assert len(told(shop)) == 1
    assert "hidden" not in (shop / "data/queue.notified").read_text()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG, "[notify]: tells no one: give a command or urls"),
        (
            CONFIG.replace("[health]", "") + 'command = ["true"]',
            "[notify]: tells what the scheduled check finds: there is no [health]",
        ),
        (
            CONFIG.replace('file = "data/queue.tsv"', 'url = "redis://h/0"') + 'urls = ["a://b"]',
            "[notify].remember: is missing, as the queue is on a server",
        ),
        (CONFIG + 'command = ["no-such-program"]', "finds no program no-such-program"),
        (CONFIG + 'command = "page"', "[notify].command: must be an array of words"),
    ],
    ids=["empty", "health", "server", "program", "string"],
)
def test_what_check_finds(app: Path, config: str, said: str) -> None:
    """A config that tells no one, or cannot."""
    (app / "dbq.toml").write_text(config)
    checked = dbq("check", cwd=app)
    assert checked.returncode == 2
    assert said in checked.stderr


@pytest.mark.parametrize(
    ("state", "last", "now", "why"),
    [
        ("OK", None, 0, ""),
        ("OK", Said("OK", 0), 10**9, ""),
        ("UNKNOWN", None, 0, "changed"),
        ("CRITICAL", Said("WARNING", 0), 1, "changed"),
        ("WARNING", Said("CRITICAL", 0), 1, "changed"),
        ("OK", Said("UNKNOWN", 0), 1, "cleared"),
        ("CRITICAL", Said("CRITICAL", 0), 59, ""),
        ("CRITICAL", Said("CRITICAL", 0), 60, "again"),
        ("CRITICAL", Said("CRITICAL", 1000), 60, "again"),
    ],
    ids=range(9),
)
def test_when_it_is_told(state: str, last: Said | None, now: int, why: str) -> None:
    """What is told of a clock that was ahead does not silence it."""
    assert occasion(state, last, now, 60) == why
