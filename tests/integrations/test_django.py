"""Tasks of a Django project in a queue of ours, by the Django that this Python has.

Django 6 takes Python 3.12, so `make test-all` runs this with Django 5.2 and 6. The project and its
own tests are in `django_project`; they are what Django's suites expect of a backend, and more.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dbbasic_queue
from dbbasic_queue import Queue

PROJECT = Path(__file__).with_name("django_project")
LEAST = 34  # tests of the project

pytest.importorskip("django", reason="the extra `django` is not installed")


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in the project, whose data are in `folder`."""
    home = Path(dbbasic_queue.__file__).parents[1]
    return subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env=os.environ | {"DATA": str(folder), "PYTHONPATH": str(home)} | more,
        capture_output=True,
        text=True,
    )


def test_the_projects_own_tests_pass(tmp_path: Path) -> None:
    """What Django expects of a backend holds, and what its users expect of a worker."""
    done = run(tmp_path, "manage.py", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert found
    assert int(found[1]) >= LEAST
    told = json.loads(re.search(r"\{.*\}", done.stdout)[0])  # type: ignore[index]
    wanted = "django.tasks" if told["django"] >= [6] else "django_tasks"
    assert told["tasks"] == wanted
    skipped = re.search(r"skipped=(\d+)", done.stderr)
    assert int(skipped[1] if skipped else 0) == (wanted == "django_tasks")  # the monitor


CONFIG = """
[queue]
file = "default.tsv"
[worker]
handlers = "dbbasic_queue.django:HANDLERS"
user = "{user}"
directory = "{project}"
concurrency = 2
environment = {{ DJANGO_SETTINGS_MODULE = "website.settings", DATA = "{data}" }}
"""


def test_a_worker_of_dbq_runs_the_tasks(tmp_path: Path) -> None:
    """`dbq work` sets Django up by itself, in each of its processes, from the config alone."""
    config = tmp_path / "dbq.toml"
    user = pwd.getpwuid(os.geteuid()).pw_name  # root's check asks for one where cron is installed
    config.write_text(CONFIG.format(project=PROJECT, data=tmp_path, user=user))
    enqueue = (
        "import django; django.setup()\n"
        "from shop.tasks import process_id\n"
        "print(*[process_id.enqueue().id for n in range(20)])"
    )
    done = run(tmp_path, "-c", enqueue, DJANGO_SETTINGS_MODULE="website.settings")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 20
    for verb in ("check", "work"):
        done = run(tmp_path, "-m", "dbbasic_queue", verb, "--config", str(config))
        assert done.returncode == 0, done.stdout + done.stderr
    jobs = [Queue(tmp_path / "default.tsv").get_job(each) for each in _ids(tmp_path)]
    assert {job["status"] for job in jobs if job} == {"completed"}


def _ids(folder: Path) -> list[str]:
    return [job["id"] for job in Queue(folder / "default.tsv").list_jobs()]


def test_without_settings_a_worker_says_so(tmp_path: Path) -> None:
    """A worker that cannot set Django up ends with a message, and takes no job."""
    done = run(tmp_path, "-m", "dbbasic_queue", "work", "dbbasic_queue.django:HANDLERS")
    assert done.returncode == 2
    assert "cannot load dbbasic_queue.django:HANDLERS: ImproperlyConfigured" in done.stderr
