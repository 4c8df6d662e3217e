"""The commands around the config, and what they say: enqueue-recurring, unknown types."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

from dbbasic_queue.cli.types import types_in_source
from dbbasic_queue.schedule.marks import HEADING

CONFIG = """
name = "shop"
[queue]
file = "data/queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[[recurring]]
name = "often"
type = "ok"
payload = {n = 1}
schedule = "* * * * *"
[[recurring]]
name = "leap"
type = "ok"
schedule = "0 12 29 2 *"
"""


@pytest.fixture
def configured(app: Path) -> Path:
    (app / "dbq.toml").write_text(CONFIG)
    return app


def test_a_recurring_job_by_hand(configured: Path) -> None:
    """It is enqueued once for each of its times; again, what is true is said, and what to do."""
    done = dbq("enqueue-recurring", "often", cwd=configured)
    job_id = done.stdout.strip()
    assert queue_of(configured).get_job(job_id)["payload"] == {"n": 1}
    done = dbq("enqueue-recurring", "often", cwd=configured)
    if done.stdout.startswith("often:"):  # else a minute has begun meanwhile
        assert f"was enqueued before, as {job_id}. The next is due at 2" in done.stdout
        assert done.stdout.endswith("; --now adds one at once.\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_recurring_job_whose_time_is_long_over(configured: Path) -> None:
    """A time before the schedule was known is left out, which is said; --now adds a job anyway."""
    done = dbq("enqueue-recurring", "leap", cwd=configured)
    assert (done.returncode, done.stderr) == (0, "")
    assert "-02-29 12:00 was over before dbq knew this schedule" in done.stdout
    job_id = dbq("enqueue-recurring", "leap", "--now", cwd=configured).stdout.strip()
    assert queue_of(configured).get_job(job_id)["type"] == "ok"
    again = dbq("enqueue-recurring", "leap", "--now", cwd=configured).stdout.strip()
    assert again != job_id
    done = dbq("enqueue-recurring", "lap", "--now", cwd=configured)
    assert (done.returncode, "those it has: often, leap" in done.stderr) == (2, True)


@pytest.mark.parametrize("catch_up", [False, True])
def test_a_job_that_its_entry_enqueues_late_is_told_of(configured: Path, catch_up: bool) -> None:
    """A scheduler in another time zone than the machine's shows in nothing else: cron mails it."""
    if catch_up:  # it may be late
        (configured / "dbq.toml").write_text(CONFIG + "catch_up = true\n")
    (configured / "data").mkdir(exist_ok=True)
    (configured / "data/queue.recurring").write_text(f"{HEADING}1\tshop\tleap\t0 12 29 2 *\n")
    done = dbq("enqueue-recurring", "leap", cwd=configured)
    assert queue_of(configured).get_job(done.stdout.strip())["type"] == "ok"
    assert done.returncode == 0
    assert ("another time zone" in done.stderr) is not catch_up
    assert ("-02-29 12:00" in done.stderr) is not catch_up


def test_a_type_without_a_handler_is_warned_of(configured: Path) -> None:
    """Where a config names the handlers; the job is enqueued all the same."""
    done = dbq("enqueue", "solw", "{}", cwd=configured)
    assert done.returncode == 0
    assert queue_of(configured).get_job(done.stdout.strip())["type"] == "solw"
    assert done.stderr == (
        "dbq: warning: jobs:HANDLERS has no handler for solw; there are handlers for: bad, die,"
        " ok, pid, slow; did you mean slow?\n"
    )
    assert dbq("enqueue", "slow", "{}", cwd=configured).stderr == ""
    assert dbq("enqueue", "solw", "{}", "--file", "other.tsv", cwd=configured).stderr == ""
    (configured / "dbq.toml").unlink()
    assert dbq("enqueue", "solw", "{}", cwd=configured).stderr == ""


def test_handlers_of_several_modules_work_and_are_known(configured: Path) -> None:
    """Those of the config, as of the command line, do the jobs; a type that none has is told of."""
    (configured / "mail.py").write_text("HANDLERS = {'post': lambda payload: 'posted'}\n")
    both = 'handlers = ["jobs:HANDLERS", "mail:HANDLERS"]'
    config = configured / "dbq.toml"
    config.write_text(CONFIG.replace('handlers = "jobs:HANDLERS"', both))
    assert dbq("enqueue", "post", "{}", cwd=configured).stderr == ""
    assert "jobs:HANDLERS and mail:HANDLERS have no handler for pots; there" in (
        dbq("enqueue", "pots", "{}", "--run-at", "2033-01-01", cwd=configured).stderr
    )
    assert dbq("enqueue", "ok", "{}", cwd=configured).returncode == 0
    assert dbq("work", cwd=configured).returncode == 0
    dbq("enqueue", "post", "{}", cwd=configured)
    assert dbq("work", "jobs:HANDLERS", "mail:HANDLERS", cwd=configured).returncode == 0
    done = [(job["type"], job["status"]) for job in queue_of(configured).list_jobs()]
    completed = "completed"
    assert done == [
        ("post", completed),
        ("pots", "pending"),
        ("ok", completed),
        ("post", completed),
    ]


def test_init_proposes_the_handlers_of_the_family_s_mail(app: Path) -> None:
    """Where dbbasic-email is installed, beside the application's own."""
    family = Path(__file__).parents[2] / ".cache" / "family"
    assert dbq("init", "--name", "shop", cwd=app, env={"PYTHONPATH": str(family)}).returncode == 0
    assert '\nhandlers = ["dbbasic_email:QUEUE_HANDLERS", "jobs:HANDLERS"]' in (
        (app / "dbq.toml").read_text()
    )


@pytest.mark.parametrize(
    ("source", "types"),
    [
        ("HANDLERS = {'a': 1, 'b-c': 2}", {"a", "b-c"}),
        ("HANDLERS: dict = {'a': 1}\nOTHERS = {'x': 1}", {"a"}),
        ("HANDLERS = {}", set()),
        ("HANDLERS = {'a': 1, **more}", None),
        ("HANDLERS = {'a': 1, name: 2}", None),
        ("HANDLERS = dict(a=1)", None),
        ("HANDLERS = {'a': 1}\nHANDLERS['b'] = 2", None),
        ("HANDLERS = {'a': 1}\nregister(HANDLERS)", None),
        ("if x:\n    HANDLERS = {'a': 1}", None),
        ("from more import HANDLERS", None),
        ("HANDLERS = {'a': 1", None),
        ("\0", None),
        ("x = " + "-" * 100_000 + "1\nHANDLERS = {'a': 1}", None),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:60],
)
def test_types_are_known_only_where_the_source_says_them(
    tmp_path: Path, source: str, types: set[str] | None
) -> None:
    """A dict written out at the top of the module, which nothing else touches."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(source)
    (tmp_path / "shop" / "__init__.py").write_text(source)
    for handlers in ("shop.jobs:HANDLERS", "shop:HANDLERS"):
        found = types_in_source(tmp_path, handlers)
        assert found == (None if types is None else frozenset(types))
    assert types_in_source(tmp_path, "shop.none:HANDLERS") is None
    assert types_in_source(tmp_path, "shop.jobs:HANDLERS.inner") is None


def test_a_pipe_in_the_place_of_the_source_is_not_waited_for(tmp_path: Path) -> None:
    """Nor in a folder that another user gave to root: the tab key asks there, too."""
    os.mkfifo(tmp_path / "jobs.py")
    assert types_in_source(tmp_path, "jobs:HANDLERS") is None
