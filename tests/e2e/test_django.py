"""A Django project made by `startproject`, whose tasks the installed unit runs, on a booted Debian.

Run by `make e2e`; `DBQ_E2E_DEBIAN=13` takes another release. Debian 12 has Python 3.11, and so
Django 5.2 with django-tasks; Debian 13 has Django 6. The tests go from top to bottom.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from machine import VENV, Machine

TASKS = """
import os
{task}

class OutOfStock(Exception):
    pass

@task
def send(to):
    return {{"to": to, "user": os.getuid(), "settings": os.environ["DJANGO_SETTINGS_MODULE"]}}

@task
async def fail(number):
    raise OutOfStock(f"none of {{number}}")
"""
SETTINGS = """
INSTALLED_APPS += {apps}
TASKS = {{
    "default": {{
        "BACKEND": "dbbasic_queue.django.QueueBackend",
        "OPTIONS": {{"file": BASE_DIR / "data/queue.tsv"}},
    }}
}}
"""
CONFIG = """
name = "shop"
[queue]
file = "/srv/shop/data/queue.tsv"
[worker]
handlers = "dbbasic_queue.django:HANDLERS"
directory = "/srv/shop"
user = "app"
python = "/opt/dbq/venv/bin/python"
max_attempts = 1
environment = { DJANGO_SETTINGS_MODULE = "shop.settings" }
"""
RESULT = """
import json
from {tasks} import default_task_backend
result = default_task_backend.get_result("{id}")
said = [[each.exception_class_path, each.traceback] for each in result.errors]
value = result._return_value
print("told", json.dumps([result.status, value, said, result.is_finished]))
"""
PYTHON = f"{VENV}/bin/python"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine with a project of Django's, and a config of ours beside it."""
    release = os.environ.get("DBQ_E2E_DEBIAN", "12")
    with Machine(release) as machine:
        machine.install_project()
        wheels = "--quiet --no-index --find-links /opt/dbq/wheels"
        machine.run(f"{VENV}/bin/pip install {wheels} 'dbbasic-queue[django]'")
        machine.run("useradd --system app; install -d -o app /srv/shop /etc/shop")
        as_app(machine, f"{VENV}/bin/django-admin startproject shop /srv/shop")
        machine.run("install -d -o app /srv/shop/mail /srv/shop/data")
        newer = package(machine) == "django.tasks"
        task = f"from {package(machine)} import task"
        machine.write("/srv/shop/mail/__init__.py", "")
        machine.write("/srv/shop/mail/tasks.py", TASKS.format(task=task))
        settings = machine.path("/srv/shop/shop/settings.py")
        apps = ["mail"] if newer else ["mail", "django_tasks"]
        settings.write_text(settings.read_text() + SETTINGS.format(apps=apps))
        machine.write("/etc/shop/dbq.toml", CONFIG)
        yield machine


def as_app(machine: Machine, command: str) -> str:
    """What a command says that the application's user runs in the project."""
    return machine.run(f"cd /srv/shop && {command}", user="app").stdout


def package(machine: Machine) -> str:
    """Where Django's tasks are, by the Django that the machine has."""
    asked = machine.run([PYTHON, "-c", "import django; print(django.VERSION[0])"]).stdout
    return "django.tasks" if int(asked) >= 6 else "django_tasks"


def enqueued(machine: Machine, call: str) -> str:
    """The id of a job that the application adds."""
    code = f"from mail.tasks import fail, send; print('id', {call}.id)"
    said = as_app(machine, f'{PYTHON} manage.py shell -c "{code}"')
    return said.rpartition("id ")[2].strip()


def ended(machine: Machine, job_id: str) -> list[Any]:
    """The result as Django tells it, once the task has ended."""
    code = RESULT.format(tasks=package(machine), id=job_id)
    machine.write("/srv/shop/ask.py", code)
    told: list[Any] = []

    def is_done() -> bool:
        said = as_app(machine, f"{PYTHON} manage.py shell < ask.py")
        told[:] = json.loads(said.rpartition("told ")[2])
        return bool(told[3])

    machine.wait(f"the task {job_id}", is_done, 150)
    return told


def test_the_project_would_work(machine: Machine) -> None:
    """Django has nothing against the settings, nor have we against the config."""
    assert "no issues" in as_app(machine, f"{PYTHON} manage.py check")
    as_app(machine, f"{PYTHON} manage.py migrate")
    checked = machine.run([f"{VENV}/bin/dbq", "check", "--config", "/etc/shop/dbq.toml"])
    assert "would work here" in checked.stdout


def test_the_unit_runs_a_task(machine: Machine) -> None:
    """A task is run by the installed unit, as the config's user, with the project's settings."""
    machine.run([f"{VENV}/bin/dbq-install-systemd", "--config", "/etc/shop/dbq.toml"])
    job_id = enqueued(machine, "send.enqueue('zoe')")
    status, value, errors, _ = ended(machine, job_id)
    uid = machine.uid("app")
    wanted = {"to": "zoe", "user": uid, "settings": "shop.settings"}
    assert (status, value, errors) == ("SUCCESSFUL", wanted, [])
    log = machine.run("journalctl --no-pager --unit 'dbq-shop-*'").stdout
    assert f"completed mail.tasks.send {job_id}" in log


def test_a_failure_is_told(machine: Machine) -> None:
    """A task that fails has the class and the place of its exception, and the log has all of it."""
    job_id = enqueued(machine, "fail.enqueue(17)")
    status, value, errors, _ = ended(machine, job_id)
    assert (status, value) == ("FAILED", None)
    ((path, traceback),) = errors
    assert path == "mail.tasks.OutOfStock"
    assert 'File "mail/tasks.py"' in traceback
    assert traceback.endswith("OutOfStock: none of 17\n")
    log = machine.run("journalctl --no-pager --unit 'dbq-shop-*'").stdout
    assert "mail.tasks.OutOfStock: none of 17" in log


def test_what_is_not_a_task_is_not_run(machine: Machine) -> None:
    """A job of a type that no task has fails, and nothing of it is called."""
    payload = '{"args": [["touch", "/srv/shop/data/wrong"]], "kwargs": {}}'
    words = f"{VENV}/bin/dbq enqueue --file data/queue.tsv subprocess.check_output '{payload}'"
    job_id = as_app(machine, words).strip()
    dbq = f"{VENV}/bin/dbq show {job_id} --file /srv/shop/data/queue.tsv"
    machine.wait("the job to fail", lambda: "No handler for" in machine.run(dbq).stdout, 150)
    assert not machine.path("/srv/shop/data/wrong").exists()
