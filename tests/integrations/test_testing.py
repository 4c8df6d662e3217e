"""The fixture `dbq`, in the tests of an application."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

APPLICATION = """
from dbbasic_queue import current_job, enqueue
from dbbasic_queue.tasks import Tasks

tasks = Tasks()


@tasks.task
def mail(to, copies=1):
    if current_job().attempt == 1:
        raise ConnectionError("busy")
    enqueue("seen", {"to": to})  # in the queue that is worked


@tasks.task
def seen(to):
    pass


def sign_up(name):
    mail.enqueue(to=name)
"""
CONFTEST = 'pytest_plugins = ["dbbasic_queue.testing"]\n'
TESTS = """
from datetime import timedelta

import pytest
from dbbasic_queue import count_jobs, enqueue, list_jobs
from dbbasic_queue.testing import TestingQueue
from shop import sign_up, tasks


def test_a_signup_is_welcomed(dbq: TestingQueue) -> None:
    sign_up("zoe")
    sign_up("ben")
    assert dbq.enqueued("mail", to="zoe")
    assert not dbq.enqueued("mail", to="eve")
    assert not dbq.enqueued("mail", to="zoe", copies=1)
    assert not dbq.enqueued("seen")
    assert [job.payload["to"] for job in dbq.enqueued("mail")] == ["zoe", "ben"]
    assert len(dbq.enqueued()) == len(dbq.enqueued(to="zoe")) + 1 == 2


def test_a_retry_takes_no_time(dbq):
    sign_up("zoe")
    assert dbq.run(tasks).retried == 1
    assert dbq.run(tasks).attempts == 0
    dbq.advance("1min")
    assert dbq.run(tasks).attempts == 0
    dbq.advance(timedelta(minutes=1))
    assert dbq.run(tasks).completed == 2
    assert dbq.enqueued("seen", to="zoe")[0].status == "completed"
    assert {job["status"] for job in list_jobs()} == {"completed"}


def test_each_test_has_a_queue_of_its_own(dbq, tmp_path):
    assert sum(count_jobs().values()) == 0
    job_id = enqueue("later", {}, run_at=dbq.now() + 3600)
    assert dbq.queue.get_job(job_id)["run_at"] == dbq.now() + 3600
    assert dbq.run({"later": print}).attempts == 0
    dbq.advance(3600)
    assert dbq.run({"later": lambda payload: 1 / 0}, max_attempts=1).failed == 1
    assert dbq.queue.path.is_relative_to(tmp_path)
    with pytest.raises(ValueError, match="advance: "):
        dbq.advance("soon")
"""


def test_an_application_tests_its_jobs(tmp_path: Path) -> None:
    """What the application enqueues is seen, run and waited for, with no worker and in no time."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shop.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"DBQ_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_pytest_is_imported_where_it_is_asked_for_only() -> None:
    """The library does without pytest, and without all that `integrations` holds."""
    code = "import dbbasic_queue, dbbasic_queue.cli.work, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if "integrations" in name or name == "pytest"]
