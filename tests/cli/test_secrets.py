"""What the config keeps off the screen: `[types.X] redact`, and --reveal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

from dbbasic_queue import Queue

CONFIG = """
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[types."mail.*"]
redact = ["token", "n"]
"""


@pytest.fixture
def secret(app: Path) -> Path:
    """A job that has failed, with its secret in its error."""
    queue = queue_of(app)
    queue.enqueue("mail.send", {"token": "hush-hush", "to": "zoe", "n": 123456}, job_id="mail-1")
    queue.enqueue("other", {"token": "shown"}, job_id="other-1")

    def fail(payload: dict[str, str]) -> None:
        raise ValueError(f"{payload['token']} is refused")

    queue.process_jobs({"mail.send": fail}, max_attempts=1, types=["mail.send"])
    (app / "dbq.toml").write_text(CONFIG)
    return app


@pytest.mark.parametrize(
    "command",
    [
        *("list", "list --json", "show mail-1", "show mail-1 --json", "errors", "errors --json"),
        *("retry mail-1 --dry-run", "prune mail-1 --dry-run", "prune mail-1 --dry-run --json"),
        *("wait mail-1 --json", "retry mail-1 --json", "list --file data/queue.tsv"),
    ],
)
def test_what_is_secret_is_not_printed(secret: Path, command: str) -> None:
    """In the payload and in the error; with --reveal it is."""
    out = dbq(*command.split(), cwd=secret).stdout
    assert "mail" in out
    assert "hush" not in out
    assert "123456" not in out
    assert "…" in out
    if "retry mail-1 --json" not in command:
        assert "hush-hush" in dbq(*command.split(), "--reveal", cwd=secret).stdout


def test_what_is_not_secret_is_printed(secret: Path) -> None:
    """Other keys, and the same key of other types."""
    shown = [json.loads(line) for line in dbq("list", "--json", cwd=secret).stdout.splitlines()]
    assert [job["payload"] for job in shown] == [
        {"token": "…", "to": "zoe", "n": "…"},
        {"token": "shown"},
    ]


def test_a_secret_that_is_replaced_is_not_printed(app: Path) -> None:
    """A retry with another takes the error away, where the former is not known as a secret."""
    (app / "dbq.toml").write_text(CONFIG)
    queue = queue_of(app)
    queue.enqueue("mail.send", {"token": "hush-hush"}, job_id="mail-1")

    def fail(payload: dict[str, str]) -> None:
        raise ValueError(f"{payload['token']} is refused")

    queue.process_jobs({"mail.send": fail}, max_attempts=2)
    assert queue.get_job("mail-1")["status"] == "pending"
    assert dbq("retry", "mail-1", "--with", "token=another", cwd=app).stdout == "pending mail-1\n"
    assert queue.get_job("mail-1")["attempts"] == 1
    for command in ("list", "show mail-1", "errors"):
        assert "hush" not in dbq(*command.split(), cwd=app).stdout


def test_what_is_hidden_is_not_enqueued_elsewhere(secret: Path) -> None:
    """A job without its secret would run with an ellipsis for it; --reveal lists all of it."""
    elsewhere = ("enqueue", "--from", "-", "--file", "elsewhere.tsv")
    listed = dbq("list", "--json", cwd=secret).stdout
    assert json.loads(listed.splitlines()[0])["hidden"] == ["n", "token"]
    done = dbq(*elsewhere, cwd=secret, stdin=listed)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'line 1: values of the payload are hidden, ["n", "token"]' in done.stderr
    assert not (secret / "elsewhere.tsv").exists()
    listed = dbq("list", "--json", "--reveal", cwd=secret).stdout
    assert dbq(*elsewhere, cwd=secret, stdin=listed).stdout == "mail-1\nother-1\n"
    payload = Queue(secret / "elsewhere.tsv").get_job("mail-1")["payload"]
    assert payload == {"token": "hush-hush", "to": "zoe", "n": 123456}


def test_the_command_of_a_hidden_error_retries_it(secret: Path) -> None:
    """What is hidden in it makes no difference."""
    (line,) = dbq("errors", "--json", cwd=secret).stdout.splitlines()
    assert json.loads(line)["glob"] == "ValueError: * is refused"
    assert dbq("retry", "--error", "ValueError: * is refused", cwd=secret).stdout == (
        "pending mail-1\n"
    )


def test_a_config_with_faults_hides_nothing_of_a_queue_that_is_named(secret: Path) -> None:
    """That is said; where the queue is the config's, nothing is printed."""
    (secret / "dbq.toml").write_text("[queue")
    done = dbq("list", "--file", "data/queue.tsv", cwd=secret)
    assert (done.returncode, "warning: nothing is hidden" in done.stderr) == (0, True)
    assert dbq("list", cwd=secret).returncode == 2


@pytest.mark.parametrize(
    "text",
    ['{"token": "hush-hush"', '{"token": "hush-hush\x1b" ' + "x " * 200],
    ids=["cut off", "long, with a control character"],
)
@pytest.mark.parametrize("command", ["list", "list --json", "show mail-2", "errors"])
def test_a_payload_that_is_not_json_is_hidden_in_the_error_too(
    secret: Path, text: str, command: str
) -> None:
    """The worker says there how it begins."""
    queue = queue_of(secret)
    queue.prune_jobs(0)
    with queue.path.open("a") as table:
        table.write(f"mail-2\tmail.send\t{text}\tpending\t1\t1\t0\t\t\n")
    queue.process_jobs({"mail.send": print}, max_attempts=1, types=["mail.send"])
    out = dbq(*command.split(), cwd=secret).stdout
    assert "the payload is not JSON: …" in out
    assert "hush" not in out
    assert "hush-hush" in dbq(*command.split(), "--reveal", cwd=secret).stdout
