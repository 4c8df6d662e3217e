"""Failed jobs told to Sentry: to a service of ours that takes what the SDK sends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dbbasic_queue import Queue

pytest.importorskip("sentry_sdk", reason="the extra `sentry` is not installed")

APPLICATION = """
import os
import sentry_sdk
from dbbasic_queue import Discard, current_job
from dbbasic_queue.integrations.sentry import SentryHandlers

sentry_sdk.init(
    os.environ["SENTRY"],
    traces_sample_rate=1.0,
    shutdown_timeout=20,
    auto_enabling_integrations="ALL" in os.environ,  # each imports a framework
)


def fail(payload):
    sentry_sdk.set_tag(f"of-{payload['n']}", "yes")
    sentry_sdk.add_breadcrumb(message=f"crumb {payload['n']}")
    raise ValueError(f"number {payload['n']} of {payload.get('token')}")


async def afail(payload):
    fail(payload)


def again(payload):
    if current_job().attempt == 1:
        raise ConnectionError("busy")


def give_up(payload):
    raise Discard("bad address")


def die(payload):
    os._exit(9)


HANDLERS = SentryHandlers(
    {
        "fail": fail,
        "afail": afail,
        "again": again,
        "give_up": give_up,
        "nightly": die if "DIE" in os.environ else again,
    },
    "dbq.toml",
)
"""
CONFIG = """
name = "shop"
[queue]
file = "queue.tsv"
[worker]
handlers = "app:HANDLERS"
concurrency = 2
max_attempts = 1
[types."*fail"]
redact = ["token"]
[[recurring]]
name = "nightly"
type = "nightly"
schedule = "0 2 * * *"
"""


class Service(ThreadingHTTPServer):
    """A service at an address like Sentry's, which keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Envelope)
        self.items: list[tuple[str, dict[str, Any]]] = []
        self.address = f"http://key@127.0.0.1:{self.server_address[1]}/1"

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What came of one kind."""
        return [item for found, item in self.items if found == kind]


class _Envelope(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        lines = data.split(b"\n")[1:]
        assert isinstance(self.server, Service)
        for head, item in zip(lines[::2], lines[1::2], strict=False):
            if head:
                self.server.items.append((json.loads(head)["type"], json.loads(item)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "dbq.toml").write_text(CONFIG)
    return Queue(tmp_path / "queue.tsv")


def work(queue: Queue, service: Service, *options: str, code: int = 0, **more: str) -> None:
    """Run what is due, as cron would."""
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "work", "--config", "dbq.toml", *options],
        cwd=queue.path.parent,
        env=os.environ | {"SENTRY": service.address} | more,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr


def test_each_failure_is_told_once(queue: Queue, service: Service) -> None:
    """With two processes, 4 of 4 events arrive; no tag and no breadcrumb leaks to the next job."""
    for number in range(4):
        queue.enqueue("afail" if number % 2 else "fail", {"n": number, "token": "s3cret"})
    work(queue, service, ALL="1")
    events = sorted(
        service.of("event"), key=lambda event: event["exception"]["values"][-1]["value"]
    )
    said = [event["exception"]["values"][-1]["value"] for event in events]
    assert said == [f"number {n} of …" for n in range(4)]
    for number, event in enumerate(events):
        own = [tag for tag in event["tags"] if tag.startswith("of-")]
        assert own == [f"of-{number}"]
        assert event["tags"]["dbq.type"] == ("afail" if number % 2 else "fail")
        crumbs = [crumb.get("message") for crumb in event["breadcrumbs"]["values"]]
        assert crumbs == [f"crumb {number}"]
        assert event["contexts"]["dbq job"]["attempt"] == 1
    assert "s3cret" not in json.dumps(service.items)
    assert {each["transaction"] for each in service.of("transaction")} == {"fail", "afail"}


def test_only_what_has_failed_for_good_is_told(queue: Queue, service: Service) -> None:
    """An attempt that is tried again is not an event; what its handler has given up is."""
    queue.enqueue("again", {})
    queue.enqueue("give_up", {})
    work(queue, service, "--max-attempts", "2")
    (event,) = service.of("event")
    assert event["exception"]["values"][-1]["type"] == "Discard"


def test_recurring_jobs_are_monitors(queue: Queue, service: Service) -> None:
    """What the clock has enqueued checks in, with its schedule, and tells how it went."""
    queue.enqueue("nightly", {}, job_id="shop_nightly_20260102T0100Z")
    queue.enqueue("nightly", {}, job_id="other_nightly_20260102T0100Z")
    work(queue, service, "--concurrency", "1", "--max-attempts", "2")
    queue.retry_job("shop_nightly_20260102T0100Z")
    first, last = service.of("check_in"), service.items
    assert [(each["monitor_slug"], each["status"]) for each in first] == [
        ("shop-nightly", "in_progress")
    ]
    assert first[0]["monitor_config"]["schedule"] == {"type": "crontab", "value": "0 2 * * *"}
    queue.retry_jobs(status="pending")
    work(queue, service, "--concurrency", "1", "--max-attempts", "2")
    told = [each["status"] for kind, each in last if kind == "check_in"]
    assert told[0] == "in_progress"
    assert told[-1] == "ok"
    assert len({each["check_in_id"] for each in service.of("check_in")}) == 1


def test_a_worker_that_died_is_told(queue: Queue, service: Service) -> None:
    """Of a job that ended with its worker the next one tells, and that its monitor has failed."""
    queue.enqueue("nightly", {}, job_id="shop_nightly_20260102T0100Z")
    work(queue, service, "--concurrency", "1", code=9, DIE="1")
    assert service.of("event") == []
    work(queue, service, "--concurrency", "1")
    (event,) = service.of("event")
    assert event["message"].startswith("WorkerDied: the worker died while it ran this job")
    assert event["tags"]["dbq.type"] == "nightly"
    checks = service.of("check_in")
    assert checks[-1]["status"] == "error"
    assert len({each["check_in_id"] for each in checks}) == 1
