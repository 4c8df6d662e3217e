"""The config: every fault of a file at once, with its line; hostile values refused or kept."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.config.sections import (
    CronConfig,
    HealthConfig,
    LogConfig,
    PruneConfig,
    load,
    name_from_folder,
    parse,
)
from dbbasic_queue.errors import ConfigError

NEEDED = '[queue]\nfile = "queue.tsv"\n[worker]\nhandlers = "myapp.jobs:HANDLERS"\n'
WHOLE = """\
name = "myapp"

[queue]
file = "/var/lib/myapp/queue.tsv"
durability = "normal"

[worker]
handlers = "myapp.jobs:HANDLERS"
schedule = "every 5 minutes"
python = "venv/bin/python"
directory = "app/../app"
user = "myapp"
environment = { DJANGO_SETTINGS_MODULE = "myapp.settings", EMPTY = "" }
environment_file = "/etc/myapp/env"
max_attempts = 5
timeout = "10min"
concurrency = 2
linger = "50s"
hardening = "isolated"
writable = ["uploads", "/srv/spool", "./uploads"]
umask = "027"
nice = 10
memory_max = "2G"
cpu_quota = "150%"

[[recurring]]
name = "nightly-report"
type = "generate_report"
payload = { report = "sales", parts = [1, 2.5, true] }
schedule = "0 2 * * *"
jitter = "5min"
catch_up = true

[[recurring]]
name = "hourly"
type = "tidy"
schedule = "@hourly"

[prune]
schedule = "30 4 * * *"
completed = "7d"
failed = 86400

[health]
schedule = "*/10 * * * *"
stuck_after = "31min"
overdue_after = "6min"
silent_after = "11min"
failed_within = "25h"
textfile = "/var/lib/prometheus/node-exporter/dbq-myapp.prom"
ping_url = "https://hc.example/abc?x=1"

[log]
file = "/var/log/myapp/dbq.log"
frequency = "weekly"
rotate = 4

[cron]
mailto = "ops@example.com"
"""


def faults(text: str, path: str = "dbq.toml") -> list[str]:
    """The lines of the ConfigError that a text causes; none if it is right."""
    try:
        parse(text, path)
    except ConfigError as error:
        return str(error).split("\n")
    return []


def test_every_key() -> None:
    """Every key arrives converted: absolute paths, seconds, schedules, plain dicts."""
    config = parse(WHOLE, "/srv/myapp/dbq.toml")
    assert (config.name, config.path) == ("myapp", Path("/srv/myapp/dbq.toml"))
    assert (config.queue.file, config.queue.durability) == (
        Path("/var/lib/myapp/queue.tsv"),
        "normal",
    )
    worker = config.worker
    assert worker.handlers == ("myapp.jobs:HANDLERS",)
    assert worker.schedule.cron() == "*/5 * * * *"
    assert worker.python == "/srv/myapp/venv/bin/python"
    assert worker.directory == Path("/srv/myapp/app")
    assert worker.user == "myapp"
    assert worker.environment == {"DJANGO_SETTINGS_MODULE": "myapp.settings", "EMPTY": ""}
    assert worker.environment_file == Path("/etc/myapp/env")
    assert (worker.max_attempts, worker.timeout, worker.concurrency) == (5, 600, 2)
    assert (worker.linger, worker.hardening) == (50, "isolated")
    assert worker.writable == (Path("/srv/myapp/uploads"), Path("/srv/spool"))
    assert (worker.umask, worker.nice) == (0o027, 10)
    assert (worker.memory_max, worker.cpu_quota) == (2 << 30, 150)
    nightly, hourly = config.recurring
    assert (nightly.name, nightly.type) == ("nightly-report", "generate_report")
    assert nightly.payload == {"report": "sales", "parts": [1, 2.5, True]}
    assert (nightly.schedule.cron(), nightly.jitter, nightly.catch_up) == ("0 2 * * *", 300, True)
    assert (hourly.payload, hourly.jitter, hourly.catch_up) == ({}, 0, False)
    assert config.prune is not None
    assert (config.prune.completed, config.prune.cancelled, config.prune.failed) == (
        604_800,
        None,
        86_400,
    )
    assert config.health is not None
    health = config.health
    assert (health.stuck_after, health.overdue_after) == (1860, 360)
    assert (health.silent_after, health.failed_within) == (660, 90_000)
    assert health.textfile == Path("/var/lib/prometheus/node-exporter/dbq-myapp.prom")
    assert health.ping_url == "https://hc.example/abc?x=1"
    assert config.log == LogConfig(Path("/var/log/myapp/dbq.log"), "weekly", 4)
    assert config.cron == CronConfig("ops@example.com")


@pytest.mark.parametrize(
    "user", ["zoe", "svc@corp.example", r"CORP\svc", "machine$", "_apt", "3proxy", "a.b-c+d"]
)
def test_users_of_a_directory_service(user: str) -> None:
    """Names as domains have them are taken; whether there is such a user is for the check."""
    config = parse(NEEDED + f"user = '{user}'\n", "/srv/shop/dbq.toml")
    assert config.worker.user == user


def test_cron_can_be_told_to_mail_nothing() -> None:
    """An empty address is cron's own word for no mail."""
    assert parse(NEEDED + '[cron]\nmailto = ""\n', "/srv/shop/dbq.toml").cron == CronConfig("")


def test_only_two_keys_are_needed() -> None:
    """The queue's file and the handlers suffice; the name is the folder's."""
    config = parse(NEEDED, "/srv/My Shop/dbq.toml")
    assert config.name == "my-shop"
    assert config.queue.file == Path("/srv/My Shop/queue.tsv")
    assert config.queue.durability == "full"
    assert config.worker.python == sys.executable
    assert config.worker.schedule.describe() == "every minute"
    assert (config.worker.max_attempts, config.worker.timeout, config.worker.linger) == (3, None, 0)
    assert (config.worker.concurrency, config.worker.hardening) == (1, "network")
    assert (config.recurring, config.prune, config.health, config.log) == ((), None, None, None)


def test_sections_have_defaults() -> None:
    """An empty [health] is the usual one; [prune] keeps what it does not mention."""
    config = parse(
        NEEDED + '[health]\n[prune]\nfailed = "1d"\n[log]\nfile = "a.log"\n', "/a/d.toml"
    )
    assert config.health == HealthConfig()
    assert config.prune == PruneConfig(failed=86_400)
    assert config.log == LogConfig(Path("/a/a.log"))


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read as UTF-8, a byte order mark or not; its path is made absolute."""
    monkeypatch.chdir(tmp_path)
    for mark in (b"", b"\xef\xbb\xbf"):
        Path("dbq.toml").write_bytes(mark + f'name = "a" # Zoë\r\n{NEEDED}'.encode())
        config = load("dbq.toml")
        assert config.path == tmp_path / "dbq.toml"
        assert config.queue.file == tmp_path / "queue.tsv"


def test_all_faults_at_once() -> None:
    """A file full of mistakes is told whole: each line, section, key and what is wrong."""
    text = """\
nme = "x"
name = "My App"
# file = "queue.tsv"
[queue]
durabilty = "full"
[worker]
handlers = "jobs.py"
schedule = "0 0 30 2 *"
timeout = "5 years"
max_attempts = 0
concurrency = "2"
environment = { A = 1, "B C" = "x" }
user = '''x
user = 3'''
hardening = "none"
[[recurring]]
name = "a"
type = "t t"
schedule = "0 0 1 * 1"
payload = { when = 2024-01-01 }
[[recurring]]
name = "a"
type = "t"
catch_up = "yes"
[prune]
[helth]
silent_after = "5min"
[log]
file = "log/"
rotate = 1.5
"""
    assert faults(text, "conf/dbq.toml") == [
        "conf/dbq.toml:1: nme: is an unknown key; did you mean 'name'?",
        "conf/dbq.toml:2: name: 'My App' is not a name; use 1 to 32 of a-z, 0-9 and -, the "
        "first of them a letter",
        "conf/dbq.toml:4: [queue].file: is missing",
        "conf/dbq.toml:5: [queue].durabilty: is an unknown key; did you mean 'durability'?",
        "conf/dbq.toml:7: [worker].handlers: 'jobs.py' is not module:attribute; write it like "
        "'myapp.jobs:HANDLERS'",
        "conf/dbq.toml:8: [worker].schedule: never fires: there is no day 30 in February",
        "conf/dbq.toml:9: [worker].timeout: '5 years' is not a duration; use numbers with units "
        '(w, d, h, min, s), largest first, such as "50s", "10min", "1h30min" or "7d", or a number '
        "of seconds",
        "conf/dbq.toml:10: [worker].max_attempts: must be from 1 to 1000000, not 0",
        "conf/dbq.toml:11: [worker].concurrency: must be a whole number, not '2'",
        "conf/dbq.toml:12: [worker].environment.'B C': is not the name of a variable; use "
        "letters, digits and '_', no digit first",
        "conf/dbq.toml:12: [worker].environment.A: must be a string, not a whole number; put it in "
        "quotes",
        "conf/dbq.toml:13: [worker].user: holds the character U+000A; control characters are not "
        "allowed",
        "conf/dbq.toml:15: [worker].hardening: must be one of 'isolated', 'network', 'compat', not "
        "'none'",
        "conf/dbq.toml:18: [recurring].type: job type 't t': must be a string of 1 to 128 "
        'printable characters, without white space, not beginning with " or #',
        "conf/dbq.toml:19: [recurring].schedule: restricts the day of month (1) and the day of "
        "week (1): cron would run it on days that match either, systemd on days that match both; "
        "put * for one of them, or make two schedules",
        "conf/dbq.toml:20: [recurring].payload: payload['when']: date cannot be JSON; use strings, "
        "numbers, lists and dicts",
        "conf/dbq.toml:21: [recurring].schedule: is missing",
        "conf/dbq.toml:22: [recurring].name: 'a' is the name of one above already",
        "conf/dbq.toml:24: [recurring].catch_up: must be true or false, not 'yes'",
        "conf/dbq.toml:25: [prune]: prunes nothing; say for how long completed, cancelled or "
        "failed are kept",
        "conf/dbq.toml:26: [helth]: is an unknown key; did you mean 'health'?",
        "conf/dbq.toml:29: [log].file: 'log/' is a folder's path; name the file",
        "conf/dbq.toml:30: [log].rotate: must be a whole number, not 1.5",
    ]


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        # names
        ("", 'name = ""', "name: must not be empty"),
        ("", 'name = "1a"', "name: '1a' is not a name"),
        ("", 'name = "a_b"', "name: 'a_b' is not a name"),
        ("", f'name = "{"a" * 33}"', "is not a name"),
        ("", "name = 5", "name: must be a string, not a whole number; put it in quotes"),
        ("", "worker = 5", "worker: must be a table, not a whole number"),
        ("", "recurring = { }", "[recurring]: must be an array of tables; write [[recurring]]"),
        ("", "recurring = [5]", "[recurring]: must be a table, not a whole number"),
        ("", "recurring = 1979-05-27", "recurring: must be an array of tables"),
        ("", "x.y = 1", "[x]: is an unknown key; known here: name, queue, worker"),
        # paths
        ("queue", 'file = "a.txt"', "[queue].file: 'a.txt' must be a file name that ends in .tsv"),
        ("queue", 'file = ".tsv"', "must be a file name that ends in .tsv"),
        ("queue", 'file = "/"', "'/' is a folder's path; name the file"),
        ("queue", 'file = "~/queue.tsv"', "'~' is not expanded here; write the whole path"),
        ("queue", f'file = "{"a" * 300}.tsv"', "has a part longer than 255 bytes"),
        ("queue", f'file = "{"é" * 128}.tsv"', "has a part longer than 255 bytes"),
        ("queue", f'file = "{"a/" * 2500}q.tsv"', "is longer than 4095 bytes"),
        ("queue", 'file = ["a.tsv"]', "must be a string, not an array"),
        ("queue", "file = 07:32:00", "must be a string, not a date or time"),
        ("worker", 'python = "python3"', "'python3' is a command, not a path"),
        ("worker", 'directory = ""', "[worker].directory: must not be empty"),
        ("log", 'file = "queue.tsv"', "[log].file: is queue.tsv, one of the queue's own files"),
        ("log", 'file = "queue.lock"', "is queue.lock, one of the queue's own files"),
        ("log", 'frequency = "daily"', "[log].file: is missing"),
        ("health", 'textfile = "a.txt"', "must be a file name that ends in .prom"),
        # handlers, users, environment
        ("worker", 'handlers = "a.b:"', "[worker].handlers: 'a.b:' is not module:attribute"),
        ("worker", "handlers = []", "[worker].handlers: is empty; write it like ['myapp.jobs"),
        ("worker", 'handlers = ["a:B", 5]', "must be a string, not a whole number"),
        ("worker", 'handlers = ["a:B", "c:D", "a:B"]', "[worker].handlers: names 'a:B' twice"),
        ("worker", 'handlers = "a..b:C"', "is not module:attribute"),
        ("worker", 'handlers = "a:b:c"', "is not module:attribute"),
        ("worker", 'handlers = "a:B C"', "is not module:attribute"),
        ("worker", 'user = "a b"', "[worker].user: 'a b' is not a user name"),
        ("worker", 'user = "1000"', "is not a user name"),
        ("worker", 'user = "-a"', "is not a user name"),
        ("worker", "environment = 5", "[worker].environment: must be a table"),
        (
            "worker",
            'environment."" = "x"',
            "[worker].environment.'': is not the name of a variable",
        ),
        (
            "worker",
            'environment.1A = "x"',
            "[worker].environment.1A: is not the name of a variable",
        ),
        ("worker", "environment.A = true", "must be a string, not a boolean; put it in quotes"),
        ("worker", 'user = "a:b"', "is not a user name"),
        ("worker", 'user = "a/b"', "is not a user name"),
        ("worker", 'user = "a%i"', "is not a user name"),
        ("worker", 'writable = "uploads"', "[worker].writable: must be an array of paths"),
        ("worker", "writable = [5]", "[worker].writable: must be a string, not a whole number"),
        ("worker", 'writable = ["~/a"]', "'~' is not expanded here"),
        ("worker", "umask = 27", 'must be three octal digits in quotes, such as "027", not 27'),
        ("worker", 'umask = "028"', "must be three octal digits"),
        ("worker", "nice = 20", "must be from -20 to 19, not 20"),
        ("worker", 'memory_max = "2 GB"', 'must be a size such as "500M" or "2G", not \'2 GB\''),
        ("worker", "memory_max = 0", "must be a size"),
        ("worker", "memory_max = true", "must be a size"),
        ("worker", "cpu_quota = 50", 'must be a percentage such as "50%" or "200%", not 50'),
        ("worker", 'cpu_quota = "0%"', "must be a percentage"),
        ("cron", 'mailto = "a b"', "[cron].mailto: 'a b' is not a mail address that cron takes"),
        ("cron", 'mailto = "-f"', "is not a mail address"),
        ("cron", "mailto = 5", "is not a mail address"),
        # numbers and durations
        ("worker", "max_attempts = true", "must be a whole number, not True"),
        ("worker", "concurrency = 1001", "must be from 1 to 1000, not 1001"),
        ("worker", "timeout = 0", "[worker].timeout: must be at least 1 s, not 0"),
        ("worker", "timeout = 1.5", 'must be a duration such as "10min", not a number'),
        ("worker", "linger = -1", "[worker].linger: -1 is not a duration"),
        ("worker", "linger = true", "must be a duration"),
        ("worker", 'linger = "200000d"', "is longer than a hundred years"),
        ("prune", 'completed = "7 days"', "[prune].completed: '7 days' is not a duration"),
        ("health", 'silent_after = "0s"', "[health].silent_after: must be at least 1 s"),
        ("log", "rotate = -1", "[log].rotate: must be from 0 to 10000"),
        # words and URLs
        ("queue", 'durability = "fast"', "must be one of 'full', 'normal', 'none', not 'fast'"),
        ("queue", "durability = 1", "must be one of 'full', 'normal', 'none', not 1"),
        ("log", 'frequency = "often"', "must be one of 'hourly', 'daily'"),
        ("health", 'ping_url = "hc.example"', "[health].ping_url: 'hc.example' is not a URL"),
        ("health", 'ping_url = "ftp://a/b"', "is not a URL"),
        ("health", 'ping_url = "https://"', "is not a URL"),
        ("health", 'ping_url = "https://a b/"', "is not a URL"),
        ("health", 'ping_url = "https://é.example/"', "is not a URL"),
        # schedules
        ("worker", 'schedule = "daily"', "[worker].schedule: 'daily' has 1 field, not five"),
        ("worker", "schedule = 5", "[worker].schedule: must be a string"),
        ("prune", 'schedule = "@reboot"', "[prune].schedule: @reboot is not a time"),
        ("health", 'schedule = "every 7 minutes"', "does not divide an hour"),
    ],
)
def test_faults(section: str, line: str, said: str) -> None:
    """Each kind of mistake is told at its line, in words that say what is right."""
    header = f"[{section}]\n" if section else ""
    needed = "" if section in ("queue", "worker") or line.startswith("worker") else NEEDED
    text = f"{needed}{header}{line}\n" if section else f"\n{line}\n{needed}"
    at = max(number for number, each in enumerate(text.split("\n"), 1) if each == line)
    if "is missing" in said:
        at -= 1  # what is not there is told at its section
    assert [fault for fault in faults(text) if said in fault and f":{at}: " in fault], faults(text)


def test_faults_of_a_broken_table_are_one() -> None:
    """A section that is not a table is one fault, not one for each key that it lacks."""
    assert faults('queue = 1\n[worker]\nhandlers = "a:B"') == [
        "dbq.toml:1: queue: must be a table, not a whole number"
    ]


def test_jitter_is_shorter_than_the_schedule() -> None:
    """A jitter that leads into the next slot is refused, with the time that there is."""
    job = '[[recurring]]\nname = "a"\ntype = "t"\nschedule = "{}"\njitter = "{}"\n'
    assert faults(NEEDED + job.format("0 2 * * *", "24h"))[0].endswith(
        "[recurring].jitter: must be shorter than the 1d from one run to the next"
    )
    assert not faults(NEEDED + job.format("0 2 * * *", "23h"))
    assert not faults(NEEDED + job.format("@weekly", "6d"))
    assert "shorter than the 28d" in faults(NEEDED + job.format("@monthly", "29d"))[0]
    assert len(faults(NEEDED + job.format("rubbish", "29d"))) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = 1\nb = ", "dbq.toml:2: not valid TOML: Invalid value"),
        ("a = 1\na = 2\n", "dbq.toml:2: not valid TOML: Cannot overwrite a value"),
        ("[a]\n[a]\n", "dbq.toml:2: not valid TOML: Cannot declare ('a',) twice"),
        ('\na = "x\n', "dbq.toml:2: not valid TOML"),
        ('\na = """x\n\n\n', "dbq.toml:2: not valid TOML: Unterminated string"),
        ("\n\na = [1,\n2\n\n", "dbq.toml:3: not valid TOML: Unclosed array"),
        ("b = 1\n# \x01\n", "dbq.toml:2: not valid TOML"),
        ("\na = 1" + "0" * 5000, "dbq.toml:2: not valid TOML: Exceeds the limit"),
        ("\na = " + "[" * 5000, "dbq.toml:2: not valid TOML: maximum recursion depth"),
        ("a\n", "dbq.toml:1: not valid TOML"),
    ],
)
def test_no_toml(text: str, fault: str) -> None:
    """What TOML does not allow is told with the line where it begins."""
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a file in another encoding are told as such."""
    with pytest.raises(ConfigError, match=r"no such file; .* dbq init"):
        load(tmp_path / "dbq.toml")
    with pytest.raises(ConfigError, match="cannot be read: it is not a regular file"):
        load(tmp_path)
    (tmp_path / "dbq.toml").write_bytes(b'# a\nname = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"dbq\.toml:2: not UTF-8 text"):
        load(tmp_path / "dbq.toml")


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "huge"])
def test_what_is_not_a_config_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    """A pipe, a device and a file without an end are refused at once."""
    path = tmp_path / "dbq.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 6 << 30)
    else:
        path.symlink_to(kind)
    with pytest.raises(ConfigError, match=r"cannot be read: it is (not a regular|larger)"):
        load(path)


def test_a_linked_config_is_where_its_link_is(tmp_path: Path) -> None:
    """Relative paths are relative to the folder of the path that is given, wherever links lead."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/dbq.toml").write_text(NEEDED)
    (tmp_path / "etc/shop.toml").symlink_to("../app/dbq.toml")
    config = load(tmp_path / "etc/shop.toml")
    assert config.path == tmp_path / "etc/shop.toml"
    assert config.queue.file == tmp_path / "etc/queue.tsv"
    assert config.directory == tmp_path / "etc"
    assert config.name == "etc"


def test_a_config_is_named_by_the_way_that_led_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From within a folder that is a link, the link is named: the next release takes its place."""
    (tmp_path / "releases/1").mkdir(parents=True)
    (tmp_path / "releases/1/dbq.toml").write_text(f'name = "a"\n{NEEDED}')
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    monkeypatch.chdir(current)
    monkeypatch.setenv("PWD", str(current))
    assert load("dbq.toml").path == load("./dbq.toml").path == current / "dbq.toml"
    assert load(current / "dbq.toml").queue.file == current / "queue.tsv"
    (tmp_path / "releases/dbq.toml").write_text(NEEDED)
    assert load("../dbq.toml").path == tmp_path / "releases/dbq.toml"
    for elsewhere in ("/", "releases/1", str(tmp_path / "gone")):
        monkeypatch.setenv("PWD", elsewhere)
        assert load("dbq.toml").path == tmp_path / "releases/1/dbq.toml"


@pytest.mark.parametrize("folder", ["a\nb", "a\x1bb", "a\x85b"])
def test_control_characters_in_the_path_of_a_config(folder: str) -> None:
    """A path that could end a line of a generated file is refused, and shown escaped."""
    with pytest.raises(ConfigError, match="holds the character U") as caught:
        parse(NEEDED, Path("/srv", folder, "dbq.toml"))
    assert str(caught.value).isprintable()


def test_names_from_folders() -> None:
    """A folder's name is made to fit, and where nothing is left of it the name is needed."""
    names = [name_from_folder(Path(folder)) for folder in ("/srv/My App_2", "/x/42-is", "/a/-b-")]
    assert names == ["my-app-2", "is", "b"]
    assert name_from_folder(Path(f"/{'long-name-' * 9}")) == "long-name-long-name-long-name-lo"
    assert name_from_folder(Path("/")) is None
    assert faults(NEEDED, "/dbq.toml") == ["/dbq.toml:1: name: is missing"]


# --- hostile values ------------------------------------------------------------------------------

HOSTILE = [
    "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\ufffeb",
    "a\tb",
]  # fmt: skip
KEPT = [
    '"', "'", "a'b\"c", "%", "%%", "%h", "$HOME", "${A}", "`id`", "$(id)", "\\", "\\n", "a\\", ";",
    "&", "|", "#", "!", "*", "?", "[a]", "~a", "Zoë", "\N{SNOWMAN}", "\N{PILE OF POO}", "-rf",
    "x" * 10_000, "a  b", "'; DROP TABLE", "\u202e",
]  # fmt: skip
STRINGS = [
    ("queue", "file", "{}/queue.tsv"),
    ("queue", "durability", "{}"),
    ("worker", "handlers", "{}"),
    ("worker", "handlers", "a:{}"),
    ("worker", "schedule", "{}"),
    ("worker", "python", "/usr/{}/python"),
    ("worker", "directory", "{}"),
    ("worker", "user", "{}"),
    ("worker", "environment", "{}"),
    ("worker", "environment_file", "{}"),
    ("worker", "timeout", "{}"),
    ("worker", "hardening", "{}"),
    ("recurring", "name", "{}"),
    ("recurring", "type", "{}"),
    ("recurring", "payload", "{}"),
    ("health", "textfile", "{}.prom"),
    ("health", "ping_url", "https://a.example/{}"),
    ("log", "file", "{}"),
    ("", "name", "{}"),
]


def quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's, which also asks for DEL to be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def with_value(section: str, key: str, value: str) -> str:
    """A config in which one string is `value`."""
    said = {"environment": f"{{ A = {value} }}", "payload": f"{{ a = [{value}] }}"}.get(key, value)
    tables: dict[str, dict[str, str]] = {
        "": {},
        "queue": {"file": '"q.tsv"'},
        "worker": {"handlers": '"a:B"'},
        "recurring": {"name": '"r"', "type": '"t"', "schedule": '"@daily"'},
        "health": {},
        "log": {"file": '"a.log"'},
    }
    tables[section][key] = said
    lines = []
    for name, table in tables.items():
        lines += [f"[[{name}]]" if name == "recurring" else f"[{name}]"] if name else []
        lines += [f"{one} = {other}" for one, other in table.items()]
    return "\n".join(lines)


@pytest.mark.parametrize(("section", "key", "form"), STRINGS)
def test_control_characters_are_refused_everywhere(section: str, key: str, form: str) -> None:
    """A control character or line separator in any string is refused at its line, by its code."""
    lines = with_value(section, key, "HERE").split("\n")
    at = next(number for number, line in enumerate(lines, 1) if "HERE" in line)
    for hostile in HOSTILE:
        (found,) = faults(with_value(section, key, quoted(form.format(hostile))))
        assert found.startswith(f"dbq.toml:{at}: ")
        assert f"holds the character U+{ord(hostile[1]):04X}" in found
        assert found.isprintable()


@pytest.mark.parametrize("kept", KEPT, ids=lambda text: ascii(text)[:20])
def test_other_hostile_strings_are_kept_or_refused(kept: str) -> None:
    """Quotes, %, $, backslashes, Unicode and 10 kB arrive as they are, or are refused in short."""
    taken = set()
    for section, key, form in STRINGS:
        value = form.format(kept)
        text = with_value(section, key, quoted(value))
        if refused := faults(text):
            assert len(refused) == 1
            assert len(refused[0]) < 400
            assert "not valid TOML" not in refused[0]
            continue
        config = parse(text, "/srv/app/dbq.toml")
        taken.add(key)
        part: Any = getattr(config, section) if section else config
        arrived = getattr(part[0] if section == "recurring" else part, key)
        absolute = value if value.startswith("/") else f"/srv/app/{value}"
        held = {"environment": {"A": value}, "payload": {"a": [value]}, "handlers": (value,)}
        wanted = held.get(key, value)
        assert arrived == (Path(absolute) if isinstance(arrived, Path) else wanted)
    assert {"environment", "payload"} <= taken


@pytest.mark.parametrize("key", ["environment", "payload", "unknown"])
def test_hostile_keys(key: str) -> None:
    """Control characters in keys are refused and shown escaped."""
    section = "recurring" if key == "payload" else "worker"
    bad = quoted("a\nb")
    table = {"unknown": f"{bad} = 1"}.get(key, f'{key} = {{ {bad} = "x" }}')
    text = with_value(section, key, '"x"')
    text = "\n".join(table if line.startswith(f"{key} = ") else line for line in text.split("\n"))
    (found,) = faults(text)
    assert "'a\\nb': the key holds the character U+000A" in found


def test_payload_is_a_jobs() -> None:
    """A payload that no job could have is refused here, not at two in the morning."""
    job = '[[recurring]]\nname = "a"\ntype = "t"\nschedule = "@daily"\npayload = {}\n'
    for bad in ("nan", "[{ a = inf }]", "07:32:00", '"' + "x" * (1 << 20) + '"'):
        found = faults(NEEDED + job.format(f"{{ a = {bad} }}"))
        assert len(found) == 1
        assert "[recurring].payload: payload" in found[0]
    assert "must be a table, not an array" in faults(NEEDED + job.format("[1]"))[0]


TOML = st.text(st.sampled_from("ab=[]{}\"'#.,\n\\_-1 \t\x01é"), max_size=60)


@given(TOML)
def test_any_text(text: str) -> None:
    """Whatever a file holds, it is a config or a ConfigError with a line for each fault."""
    for found in faults(NEEDED + text) + faults(text + "\n" + NEEDED):
        assert re.match(r"dbq\.toml:[0-9]+: .", found)
        assert found.isprintable()


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text(max_size=5).map(quoted)),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(STRINGS), VALUES)
def test_any_value(place: tuple[str, str, str], value: Any) -> None:
    """A value of any type anywhere is taken or refused, never an accident."""
    written = str(value).replace("'", "").replace("True", "true").replace("False", "false")
    for found in faults(with_value(place[0], place[1], written)):
        assert re.match(r"dbq\.toml:[0-9]+: ", found)
