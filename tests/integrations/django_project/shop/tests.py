"""What Django expects of a backend, and what a worker does with its tasks."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections, transaction
from django.test import SimpleTestCase, TransactionTestCase, override_settings

from dbbasic_queue import Backoff, JobCancelled
from dbbasic_queue.django import HANDLERS, QueueBackend
from dbbasic_queue.integrations.django import api
from shop import mail, tasks
from shop.errors import OutOfStock
from shop.models import Order

backend = api.tasks.default_task_backend
Status = api.Status
AT_ONCE = Backoff(base=0, cap=0, jitter=0)


def work(queue="default", alias="default", attempts=1):
    """Run what is due, as a worker does."""
    found = api.tasks.task_backends[alias].queue(queue)
    return found.process_jobs(HANDLERS, attempts, backoff=AT_ONCE)


class Heard:
    """The signals that were sent meanwhile."""

    def __enter__(self):
        self.all = []
        for name in ("task_enqueued", "task_started", "task_finished"):
            getattr(api.signals, name).connect(getattr(self, name))
        return self

    def __exit__(self, *error):
        for name in ("task_enqueued", "task_started", "task_finished"):
            getattr(api.signals, name).disconnect(getattr(self, name))

    def task_enqueued(self, sender, task_result, **more):
        self.note("enqueued", sender, task_result)

    def task_started(self, sender, task_result, **more):
        self.note("started", sender, task_result)

    def task_finished(self, sender, task_result, **more):
        self.note("finished", sender, task_result)

    def note(self, what, sender, result):
        assert sender is QueueBackend
        Order.objects.count()  # a receiver may use the database
        times = (result.enqueued_at, result.started_at, result.finished_at)
        self.all.append((what, result.status, result.attempts, result.errors, times))


class Case(TransactionTestCase):
    """Each test has empty queues."""

    def setUp(self):
        for file in settings.DATA.glob("*.tsv"):
            file.unlink()


class Backend(Case):
    """The expectations of a backend that keeps results."""

    def test_it_is_the_backend(self):
        """It is the backend."""
        self.assertEqual(backend, api.tasks.task_backends["default"])
        self.assertIsInstance(api.tasks.task_backends["default"], QueueBackend)
        self.assertEqual(backend.alias, "default")
        supports = {
            name: getattr(backend, name)
            for name in dir(QueueBackend)
            if name.startswith("supports_")
        }
        wanted = {"defer": True, "async_task": True, "get_result": True, "priority": False}
        self.assertEqual(supports, {f"supports_{name}": is_ for name, is_ in wanted.items()})

    def test_a_task_is_enqueued(self):
        """A task is enqueued."""
        for task in (tasks.noop, tasks.anoop):
            result = task.enqueue(1, two=3)
            self.assertEqual(result.status, Status.READY)
            self.assertFalse(result.is_finished)
            self.assertIsNone(result.started_at)
            self.assertIsNone(result.last_attempted_at)
            self.assertIsNone(result.finished_at)
            self.assertIsNotNone(result.enqueued_at.tzinfo)
            with self.assertRaisesMessage(ValueError, "Task has not finished yet"):
                result.return_value
            self.assertEqual((result.task, result.args, result.kwargs), (task, [1], {"two": 3}))
            self.assertEqual((result.attempts, result.errors, result.backend), (0, [], "default"))
            job = backend.queue("default").get_job(result.id)
            self.assertEqual(job["type"], task.module_path)
            self.assertEqual(job["payload"], {"args": [1], "kwargs": {"two": 3}})

    async def test_a_task_is_enqueued_by_a_coroutine(self):
        """A task is enqueued by a coroutine."""
        for task in (tasks.noop, tasks.anoop):
            result = await task.aenqueue()
            self.assertEqual(result.status, Status.READY)
            self.assertEqual(await task.aget_result(result.id), result)

    def test_a_result_is_found_again(self):
        """A result is found again."""
        result = tasks.noop.enqueue()
        self.assertEqual(backend.get_result(result.id), result)
        self.assertEqual(tasks.noop.get_result(result.id), result)
        with self.assertRaises(api.exceptions.TaskResultMismatch):
            tasks.anoop.get_result(result.id)

    async def test_a_result_is_found_by_a_coroutine(self):
        """A result is found by a coroutine."""
        result = await tasks.noop.aenqueue()
        self.assertEqual(await backend.aget_result(result.id), result)

    def test_what_is_not_there_is_not_found(self):
        """What is not there is not found."""
        for unknown in ("123", "not an id", "", 123):
            with self.assertRaises(api.TaskResultDoesNotExist):
                backend.get_result(unknown)

    def test_other_jobs_are_not_results(self):
        """Other jobs are not results."""
        queue = backend.queue("default")
        ids = [queue.enqueue("subprocess.check_output", {"args": [], "kwargs": {}})]
        ids += [queue.enqueue("shop.tasks.noop", {"to": "zoe"})]
        for job_id in ids:
            with self.assertRaises(api.TaskResultDoesNotExist):
                backend.get_result(job_id)

    def test_a_result_of_another_backend_is_not_found(self):
        """A result of another backend is not found."""
        result = tasks.noop.using(backend="other").enqueue()
        with self.assertRaises(api.TaskResultDoesNotExist):
            backend.get_result(result.id)
        found = api.tasks.task_backends["other"].get_result(result.id)
        self.assertEqual((found, found.task.backend), (result, "other"))

    def test_a_result_is_refreshed(self):
        """A result is refreshed."""
        result = tasks.meaning_of_life.enqueue()
        self.assertEqual(work().completed, 1)
        result.refresh()
        self.assertEqual((result.status, result.return_value), (Status.SUCCESSFUL, 42))
        self.assertTrue(result.is_finished)
        self.assertEqual(result.attempts, 1)
        self.assertLessEqual(result.enqueued_at, result.started_at)
        self.assertLessEqual(result.started_at, result.last_attempted_at)
        self.assertLessEqual(result.last_attempted_at, result.finished_at)
        self.assertEqual(result, backend.get_result(result.id))

    async def test_a_result_is_refreshed_by_a_coroutine(self):
        """A result is refreshed by a coroutine."""
        result = await tasks.noop.aenqueue()
        await result.arefresh()
        self.assertEqual(result.status, Status.READY)

    def test_run_after_is_kept(self):
        """`run_after` is kept."""
        for after in (timedelta(hours=10), -timedelta(hours=10)):
            task = tasks.noop.using(run_after=datetime.now(UTC) + after)
            result = task.enqueue()
            self.assertEqual(backend.get_result(result.id).task, task)
        self.assertEqual(work().completed, 1)

    @override_settings(USE_TZ=False)
    def test_times_are_local_where_the_project_has_them_so(self):
        """Times are local where the project has them so."""
        task = tasks.noop.using(run_after=datetime.now() - timedelta(hours=1))
        result = task.enqueue()
        self.assertEqual(backend.get_result(result.id).task, task)
        self.assertIsNone(result.enqueued_at.tzinfo)
        self.assertEqual(work().completed, 1)
        result.refresh()
        self.assertIsNone(result.finished_at.tzinfo)

    def test_a_queue_is_a_file(self):
        """A queue is a file."""
        result = tasks.noop.using(queue_name="mail").enqueue()
        other = tasks.in_mail.enqueue()
        self.assertEqual((work().completed, work("mail").completed), (0, 2))
        for each in (result, other):
            found = backend.get_result(each.id)
            self.assertEqual((found.task, found.task.queue_name), (each.task, "mail"))

    def test_what_cannot_be_enqueued_is_refused(self):
        """What cannot be enqueued is refused."""
        validate = backend.validate_task
        with self.assertRaisesMessage(api.InvalidTask, "priority"):
            tasks.noop.using(priority=1)
        with self.assertRaisesMessage(api.InvalidTask, "not valid for backend"):
            tasks.noop.using(queue_name="unknown")
        with self.assertRaisesMessage(api.InvalidTask, "is not a task"):
            tasks.task(mail.not_a_task).enqueue()
        with self.assertRaises(TypeError):
            tasks.noop.enqueue(object())
        tasks.noop.func.__qualname__ = "n" * 120
        try:
            with self.assertRaisesMessage(api.InvalidTask, "1 to 128 printable characters"):
                validate(tasks.noop)
        finally:
            tasks.noop.func.__qualname__ = "noop"
        self.assertEqual(list(backend.queue("default").list_jobs()), [])

    def test_a_queue_may_have_any_name_that_a_file_can_have(self):
        """A queue may have any name that a file can have."""
        options = {"file": settings.DATA / "any-{queue}.tsv"}
        any_name = QueueBackend("any", {"QUEUES": [], "OPTIONS": options})
        with self.assertRaisesMessage(api.InvalidTask, "cannot be part of a file's name"):
            any_name.validate_task(_with(tasks.noop, queue_name="../mail"))
        result = any_name.enqueue(_with(tasks.noop, queue_name="news.2"), (), {})
        self.assertTrue((settings.DATA / "any-news.2.tsv").exists())
        self.assertEqual(any_name.get_result(result.id).task.queue_name, "news.2")

    def test_a_transaction_is_waited_for(self):
        """A transaction is waited for."""
        task = tasks.noop.using(backend="other")
        queue = api.tasks.task_backends["other"].queue("default")
        with Heard() as heard, transaction.atomic():
            result = task.enqueue()
            self.assertEqual((list(queue.list_jobs()), heard.all), ([], []))
            self.assertIsNone(result.enqueued_at)
        self.assertEqual(task.get_result(result.id), result)
        self.assertEqual([what for what, *_ in heard.all], ["enqueued"])
        with self.assertRaises(OutOfStock), transaction.atomic():
            task.enqueue()
            raise OutOfStock
        self.assertEqual(len(list(queue.list_jobs())), 1)
        with transaction.atomic():  # of the backend that does not wait
            tasks.noop.enqueue()
            self.assertEqual(len(list(backend.queue("default").list_jobs())), 1)

    def test_options_are_checked(self):
        """Options are checked."""
        self.assertEqual(list(backend.check()), [])
        wrong = {
            "E001": {"file": "a.tsv", "durabilty": "full"},
            "E002": {"file": "a.tsv", "url": "redis://localhost/0"},
            "E003": {"config": "dbq.toml", "durability": "full"},
            "E004": {"file": "a.txt"},
            "E005": {"file": "a.tsv", "enqueue_on_commit": "yes"},
            "E006": {"file": "a.tsv", "durability": "ful"},
        }
        for number, options in wrong.items():
            found = list(QueueBackend("x", {"OPTIONS": options}).check())
            self.assertIn(f"dbbasic_queue.{number}", [each.id for each in found], found)
            self.assertIn("TASKS['x']['OPTIONS']: ", found[0].msg)
        with self.assertRaises(SystemCheckError), override_settings(TASKS=_wrong_settings()):
            call_command("check", stderr=StringIO())

    def test_a_config_says_where_the_queue_is(self):
        """A config says where the queue is."""
        config = settings.DATA / "dbq.toml"
        config.write_text(
            f'[queue]\nfile = "{settings.DATA}/by-config.tsv"\n'
            '[worker]\nhandlers = "dbbasic_queue.django:HANDLERS"\n'
        )
        by_config = QueueBackend("config", {"OPTIONS": {"config": config}})
        result = by_config.enqueue(tasks.meaning_of_life, (), {})
        self.assertEqual(by_config.queue("default").path.name, "by-config.tsv")
        self.assertEqual(by_config.get_result(result.id), result)


class Worker(Case):
    """What a worker makes of tasks."""

    def test_results_are_those_of_the_functions(self):
        """Results are those of the functions."""
        results = [tasks.meaning_of_life.enqueue(), tasks.ameaning_of_life.enqueue()]
        both = tasks.echo.enqueue(1, ("a", None), to="zoë")
        self.assertEqual(work().completed, 3)
        for result in results:
            result.refresh()
            self.assertEqual(result.return_value, 42)
        both.refresh()
        wanted = {"args": [1, ["a", None]], "kwargs": {"to": "zoë"}}
        self.assertEqual(both.return_value, wanted)

    def test_failures_have_class_and_traceback(self):
        """Failures have class and traceback."""
        for task, kind in (
            (tasks.fail_value_error, ValueError),
            (tasks.afail_value_error, ValueError),
            (tasks.fail_system_exit, SystemExit),
            (tasks.fail_own, OutOfStock),
        ):
            with Heard() as heard:
                result = task.enqueue()
                self.assertEqual(work().failed, 1)
            result.refresh()
            self.assertEqual(result.status, Status.FAILED)
            with self.assertRaisesMessage(ValueError, "Task failed"):
                result.return_value
            (error,) = result.errors
            self.assertIs(error.exception_class, kind)
            name = task.func.__name__
            self.assertRegex(error.traceback, rf"^Traceback .*\n  File .*tasks\.py.*in {name}\n")
            self.assertRegex(error.traceback, rf"\n{kind.__name__}: .+\n$")
            (whole,) = heard.all[-1][3]
            self.assertIs(whole.exception_class, kind)
            self.assertIn(f"{kind.__name__}: ", whole.traceback)
            self.assertIn(f"in {name}\n    ", whole.traceback)

    def test_an_exception_in_an_exception(self):
        """An exception in an exception."""
        result = tasks.fail_complex.enqueue()
        work()
        result.refresh()
        self.assertIs(result.errors[0].exception_class, ValueError)

    def test_what_json_cannot_hold_has_failed_and_is_not_done_again(self):
        """What JSON cannot hold has failed and is not done again."""
        result = tasks.return_complex.enqueue()
        tasks.tries.clear()
        self.assertEqual((work(attempts=3).failed, tasks.tries), (1, [1]))
        result.refresh()
        self.assertEqual((result.status, result._return_value), (Status.FAILED, None))
        self.assertIs(result.errors[0].exception_class, TypeError)
        self.assertIn("Unsupported type", result.errors[0].traceback)

    def test_signals_are_sent(self):
        """Signals are sent."""
        for task in (tasks.noop, tasks.anoop):
            with Heard() as heard:
                task.enqueue()
                work()
            self.assertEqual(
                [each[:3] for each in heard.all],
                [
                    ("enqueued", Status.READY, 0),
                    ("started", Status.RUNNING, 1),
                    ("finished", Status.SUCCESSFUL, 1),
                ],
            )
            enqueued, started, finished = heard.all[-1][4]
            self.assertLessEqual(enqueued, started)
            self.assertLess(started, finished)

    def test_a_job_that_ended_with_its_worker_has_finished(self):
        """A job that ended with its worker has finished: told by the next worker, once."""
        result = tasks.die.enqueue()
        connections.close_all()  # a child takes none along
        with Heard() as heard:
            for _ in range(2):
                child = os.fork()
                if not child:
                    work(attempts=2)
                    os._exit(1)
                os.waitpid(child, 0)
            self.assertEqual(work(attempts=2).failed, 1)
            work(attempts=2)
        self.assertEqual([each[:3] for each in heard.all], [("finished", Status.FAILED, 2)])
        errors, times = heard.all[0][3:]
        self.assertEqual(errors[0].exception_class_path, "dbbasic_queue.errors.QueueError")
        self.assertIn("WorkerDied: the worker died while it ran this job", errors[0].traceback)
        self.assertIsNotNone(times[2])
        result.refresh()
        self.assertEqual((result.status, result.attempts), (Status.FAILED, 2))

    def test_an_attempt_that_is_repeated_has_not_finished(self):
        """An attempt that is repeated has not finished."""
        with Heard() as heard:
            result = tasks.fail_first.enqueue()
            summary = work(attempts=2)
        self.assertEqual((summary.retried, summary.completed), (1, 1))
        said = [each[:3] for each in heard.all]
        self.assertEqual(
            said[1:3], [("started", Status.RUNNING, 1), ("started", Status.RUNNING, 2)]
        )
        self.assertEqual(said[3:], [("finished", Status.SUCCESSFUL, 2)])
        result.refresh()
        self.assertEqual((result.return_value, result.attempts, result.errors), (2, 2, []))

    def test_an_attempt_that_is_to_be_repeated_is_ready(self):
        """An attempt that is to be repeated is ready."""
        result = tasks.fail_first.enqueue()
        backend.queue("default").process_jobs(HANDLERS, 2)
        result.refresh()
        self.assertEqual((result.status, result.attempts), (Status.READY, 1))
        self.assertIs(result.errors[0].exception_class, OutOfStock)
        self.assertIsNone(result.finished_at)

    def test_a_cancelled_task_has_failed(self):
        """A cancelled task has failed."""
        result = tasks.noop.enqueue()
        self.assertTrue(backend.queue("default").cancel_job(result.id))
        result.refresh()
        self.assertEqual((result.status, result.attempts), (Status.FAILED, 0))
        self.assertIs(result.errors[0].exception_class, JobCancelled)
        self.assertIsNone(result.started_at)

    def test_a_task_has_its_context(self):
        """A task has its context."""
        ids = [tasks.own_id.enqueue().id, tasks.acontext.enqueue(7).id]
        self.assertEqual(work().completed, 2)
        found = [backend.get_result(each) for each in ids]
        self.assertEqual([each.return_value for each in found], [ids[0], 7])

    def test_tasks_use_the_database(self):
        """Tasks use the database."""
        numbers = [Order.objects.create().pk, Order.objects.create().pk]
        results = [tasks.send_order.enqueue(numbers[0]), tasks.asend_order.enqueue(numbers[1])]
        self.assertEqual(work().completed, 2)
        self.assertEqual(Order.objects.filter(sent=True).count(), 2)
        for result in results:
            result.refresh()
            self.assertEqual(result.return_value, 1)

    def test_connections_are_closed_between_jobs(self):
        """Connections are closed between jobs."""
        connection.ensure_connection()
        first = connection.connection
        connection.close_at = 0  # it is too old
        tasks.noop.enqueue()
        work()
        self.assertIsNot(connection.connection, first)

    def test_only_tasks_of_the_project_are_run(self):
        """Only tasks of the project are run."""
        queue = backend.queue("default")
        wrong = Path(settings.DATA) / "wrong"
        for path in (
            "subprocess.check_output",
            "shop.mail.check_output",
            "shop.mail.not_a_task",
            "shop.mail.alias",
            "os.system",
            "antigravity.webbrowser",
            "shop.nothing.there",
            "shop.mail",
            "noop",
            ".",
            "shop..noop",
        ):
            queue.enqueue(path, {"args": [["touch", str(wrong)]], "kwargs": {}})
        summary = work()
        self.assertEqual((summary.completed, summary.failed), (0, 11))
        errors = {job["error"].partition(":")[0] for job in queue.list_jobs()}
        self.assertEqual(errors, {"LookupError"})
        self.assertFalse(wrong.exists())
        self.assertEqual(mail.calls, [])
        self.assertNotIn("antigravity", sys.modules)

    def test_all_tasks_are_listed(self):
        """All tasks are listed."""
        self.assertIn("shop.tasks.noop", list(HANDLERS))
        self.assertIn("shop.mail.send", list(HANDLERS))
        self.assertNotIn("shop.mail.alias", list(HANDLERS))
        self.assertEqual(len(HANDLERS), len(set(HANDLERS)))
        result = mail.send.enqueue("zoe")
        work()
        result.refresh()
        self.assertEqual(result.return_value, "sent to zoe")


class Monitor(Case):
    """A third party's monitor sees what happens."""

    def test_a_monitor_sees_the_tasks(self):
        """A monitor sees the tasks."""
        if not apps.is_installed("tasks_monitor"):
            self.skipTest("django-tasks-monitor is for Django 6")
        from tasks_monitor.models import TaskRecord

        results = [tasks.meaning_of_life.enqueue(), tasks.fail_own.enqueue()]
        self.assertEqual(TaskRecord.objects.filter(status=Status.READY).count(), 2)
        work()
        good, bad = (TaskRecord.objects.get(result_id=each.id) for each in results)
        self.assertEqual((good.status, good.attempts), (Status.SUCCESSFUL, 1))
        self.assertGreater(good.duration, timedelta(0))
        self.assertEqual(
            (bad.status, bad.exception_class), (Status.FAILED, "shop.errors.OutOfStock")
        )
        self.assertIn("none left", bad.traceback)


class Names(SimpleTestCase):
    """What a project finds without a database."""

    def test_the_version_of_django_is_told(self):
        """The version of Django is told."""
        print(json.dumps({"django": django.VERSION[:2], "tasks": api.tasks.__name__}))


def _with(task, **changes):
    """A task with other fields, not validated by its own backend."""
    from dbbasic_queue.integrations.django.results import task_of

    return task_of(task, changes)


def _wrong_settings():
    options = {"file": "a.txt"}
    return {"default": {"BACKEND": "dbbasic_queue.django.QueueBackend", "OPTIONS": options}}
