"""Which queue and which config a command takes, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_app import dbq, on_a_terminal

from dbbasic_queue import Queue
from dbbasic_queue.cli import common
from dbbasic_queue.cli.common import UsageError, config_path, where
from dbbasic_queue.config import search
from dbbasic_queue.errors import ConfigError

CONFIG = """
[queue]
file = "{}"
[worker]
handlers = "jobs:HANDLERS"
"""


def config(path: Path, queue: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG.format(queue))
    return str(path)


def taken(app: Path, *args: str, **variables: str) -> str:
    """The name of the queue in which `dbq enqueue` finds itself."""
    job = dbq("enqueue", "ok", "{}", *args, cwd=app, env=variables)
    assert job.returncode == 0, job.stderr
    (found,) = (p for p in app.rglob("*.tsv") if Queue(p).get_job(job.stdout.strip()))
    return found.name


def test_the_first_that_is_named_is_taken(app: Path) -> None:
    """Options before variables before ./dbq.toml before data/queue.tsv."""
    other = config(app / "other" / "dbq.toml", "of-config.tsv")
    assert taken(app) == "queue.tsv"
    assert taken(app, DBQ_CONFIG=other) == "of-config.tsv"
    assert taken(app, DBQ_FILE="of-variable.tsv") == "of-variable.tsv"
    config(app / "dbq.toml", "here.tsv")
    assert taken(app) == "here.tsv"
    assert taken(app, DBQ_FILE="of-variable.tsv") == "of-variable.tsv"
    assert taken(app, "--config", other, DBQ_FILE="of-variable.tsv") == "of-config.tsv"
    assert taken(app, "--file", "a.tsv", DBQ_FILE="of-variable.tsv") == "a.tsv"
    assert taken(app, "--file", "a.tsv", "--config", other) == "a.tsv"


def test_two_variables_are_one_too_many(app: Path) -> None:
    """With both variables set, only an option says which queue is meant."""
    both = {"DBQ_FILE": "a.tsv", "DBQ_CONFIG": config(app / "etc" / "dbq.toml", "b.tsv")}
    done = dbq("list", cwd=app, env=both)
    assert done.returncode == 2
    assert "both $DBQ_FILE and $DBQ_CONFIG are set" in done.stderr
    assert taken(app, "--file", "c.tsv", **both) == "c.tsv"
    assert taken(app, "--config", both["DBQ_CONFIG"], **both) == "b.tsv"
    assert taken(app, DBQ_FILE="a.tsv", DBQ_CONFIG="") == "a.tsv"


def test_a_server_is_named_as_a_file_is() -> None:
    """--url before $DBQ_URL; an option always wins; two at once are refused."""
    url = "redis://h/0"
    assert where(None, None, {"DBQ_URL": "redis://other"}, url=url)[::2] == (url, "--url")
    assert where(None, None, {"DBQ_URL": url})[::2] == (url, "$DBQ_URL")
    assert where("a.tsv", None, {"DBQ_URL": url}).address == "a.tsv"
    assert where(None, "b.toml", {"DBQ_URL": url}).config == "b.toml"
    with pytest.raises(UsageError, match="both --file and --url are given"):
        where("a.tsv", None, {}, url=url)
    for others in ({"DBQ_FILE": "a"}, {"DBQ_CONFIG": "b"}, {"DBQ_FILE": "a", "DBQ_CONFIG": "b"}):
        with pytest.raises(UsageError, match=r"\$DBQ_URL.* are set: unset"):
            where(None, None, {"DBQ_URL": url, **others})


def test_the_systems_config_is_taken_before_a_new_queue(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/etc/dbbasic-queue/dbq.toml comes after what is here, and before what would be created."""
    system = config(app / "etc" / "dbq.toml", "system.tsv")
    monkeypatch.setattr(common, "SYSTEM_CONFIG", system)
    monkeypatch.setattr(search, "CONFIGS", ("dbq.toml", system))
    monkeypatch.chdir(app)
    assert where(None, None, {}) == (None, system, system, False)
    assert config_path(None, {}) == system
    Queue("data/queue.tsv").enqueue("ok", {})
    assert where(None, None, {}) == ("data/queue.tsv", None, "data/queue.tsv", False)
    assert config_path(None, {}) == system
    here = config(Path("dbq.toml"), "here.tsv")
    assert where(None, None, {}) == (None, here, "./dbq.toml", False)
    assert config_path(None, {}) == here
    assert where("a.tsv", None, {}).config == here
    assert where("a.tsv", None, {"DBQ_CONFIG": "b.toml"}).config == "b.toml"
    with pytest.raises(UsageError):
        config_path(None, {"DBQ_CONFIG": "b.toml", "DBQ_FILE": "a.tsv"})


def test_a_config_that_is_needed_and_missing_is_said(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what was tried."""
    monkeypatch.chdir(app)
    monkeypatch.setattr(search, "CONFIGS", ("dbq.toml", str(app / "etc/dbq.toml")))
    with pytest.raises(ConfigError, match=r"tried dbq.toml and .*/etc/dbq.toml; name one with"):
        config_path(None, {})


def test_a_missing_queue_says_where_it_was_looked_for(app: Path) -> None:
    """A queue that was not named: what was tried, in order. One that was: what named it."""
    said = dbq("list", cwd=app).stderr
    assert "there is no queue " in said
    assert (
        "$DBQ_FILE, $DBQ_URL, $DBQ_CONFIG, ./dbq.toml, data/queue.tsv, /etc/dbbasic-queue/dbq.toml"
        in said
    )
    assert "x.tsv (--file)" in dbq("list", "--file", "x.tsv", cwd=app).stderr
    assert "x.tsv ($DBQ_FILE)" in dbq("list", cwd=app, env={"DBQ_FILE": "x.tsv"}).stderr


def test_a_terminal_is_told_which_queue_was_taken(app: Path) -> None:
    """Unless it was named; a pipe is told nothing."""
    dbq("enqueue", "ok", "{}", cwd=app)
    path = app / "data" / "queue.tsv"
    _, shown = on_a_terminal("stats", cwd=app)
    assert f"dbq: the queue is {path}\n" in shown
    config(app / "dbq.toml", "data/queue.tsv")
    assert f"dbq: the queue is {path}, by ./dbq.toml\n" in on_a_terminal("stats", cwd=app)[1]
    assert "the queue is" not in on_a_terminal("stats", "--file", str(path), cwd=app)[1]
    assert "the queue is" not in on_a_terminal("stats", cwd=app, env={"DBQ_FILE": str(path)})[1]
    assert dbq("stats", cwd=app).stderr == ""
