"""Text that a producer chose reaches logs, terminals, monitoring and generated files escaped."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from house import House, command
from parties import PRODUCER, READER, ROOT, WORKER, as_user

from dbbasic_queue.cli import health, install
from dbbasic_queue.cli import main as dbq

# What steers a terminal, begins a line of its own, or ends a field of a monitoring system.
STRANGE = "\x1b]0;owned\x07\r\u2028\x85\x9b31m 2026-01-01 00:00:00,000 INFO |x=1;;"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@pytest.fixture
def strange(house: House) -> House:
    """A producer has written rows by hand, with such text in every field."""
    rows = [
        f"{name}\t{STRANGE}{name}\t{payload}\t{status}\t1\t1\t{attempts}\t{STRANGE}\t{STRANGE}\n"
        for name, payload, status, attempts in (
            ("s1", "{}", "pending", 0),
            ("s2", f"not JSON {STRANGE}", "pending", 0),
            ("s3", "{}", "failed", 3),
            ("s4", "{}", "processing", 1),
        )
    ]
    text = "".join(rows) + f"{STRANGE}\x00 is not a row\n"

    def append() -> None:
        with house.table.open("a", newline="") as table:
            table.write(text)

    as_user(PRODUCER, append)
    return house


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--json"],
        ["show", "s1"],
        ["show", "s2"],
        ["show", "s4"],
        ["fsck"],
        ["stats"],
        ["cancel", f"no{STRANGE}"],
        ["retry", f"no{STRANGE}"],
    ],
    ids=lambda words: " ".join(words)[:12],
)
def test_dbq_prints_no_control_character(strange: House, words: list[str]) -> None:
    """Neither on standard output nor in an error."""
    ran = command(READER, dbq.main, *words, "--file", strange.table)
    assert ran.text
    assert not CONTROL.search(ran.text), repr(ran.text)


@pytest.mark.parametrize("form", ["nagios", "text", "json", "prometheus"])
def test_dbq_health_prints_no_control_character(strange: House, form: str) -> None:
    """And no `|` of a stranger's, behind which Nagios looks for numbers."""
    ran = command(READER, health.main, "--file", strange.table, "--format", form, "-vv")
    assert ran.out
    assert not CONTROL.search(ran.text), repr(ran.text)
    if form == "nagios":
        assert ran.out.split("\n")[0].count("|") <= 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_has_one_line_an_event(strange: House, form: str) -> None:
    """No control character gets in, so no line is forged and no terminal steered."""
    log = strange.folder / "worker.log"
    words = ["work", "house:HANDLERS", "--file", strange.table]
    command(WORKER, dbq.main, *words, "--log-file", log, "--log-format", form)
    text = log.read_text()
    assert "s1" in text
    assert not CONTROL.search(text), repr(text)
    start = r"\{" if form == "json" else r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ \[\d+\] "
    forged = [line for line in text.splitlines() if not re.match(rf"{start}|    |$", line)]
    assert not forged


@pytest.mark.parametrize("kind", ["cron", "systemd", "logrotate"])
def test_a_name_with_a_newline_gets_into_no_generated_file(tmp_path: Path, kind: str) -> None:
    """A folder called so would add directives of its own to what root's logrotate reads."""
    folder = tmp_path / "app\n/etc/shadow {\n    postrotate touch owned\n}"
    folder.mkdir(parents=True)
    config = folder / "dbq.toml"
    config.write_text(
        'name = "shop"\n[queue]\nfile = "/var/lib/shop/queue.tsv"\n'
        f'[worker]\nhandlers = "jobs:HANDLERS"\nuser = "daemon"\npython = "{sys.executable}"\n'
        '[log]\nfile = "/var/log/shop.log"\n'
    )
    ran = command(ROOT, getattr(install, kind), "--print", "--config", config)
    assert ran.code == 2, ran
    assert "\n    postrotate" not in ran.text
