"""The settings of the project: an app, a database, and its tasks in a queue of ours."""

import importlib.util
import os
from pathlib import Path

import django

DATA = Path(os.environ["DATA"])
SECRET_KEY = "for tests only"
USE_TZ = True
INSTALLED_APPS = ["shop"]
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")
if importlib.util.find_spec("tasks_monitor"):
    INSTALLED_APPS += ["django.contrib.contenttypes", "django.contrib.auth", "tasks_monitor"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        "TEST": {"NAME": DATA / "test.sqlite3"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = {
    "default": {
        "BACKEND": "dbbasic_queue.django.QueueBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"file": DATA / "{queue}.tsv"},
    },
    "other": {
        "BACKEND": "dbbasic_queue.django.QueueBackend",
        "QUEUES": [],
        "OPTIONS": {"file": DATA / "other.tsv", "durability": "normal", "enqueue_on_commit": True},
    },
}
