"""The page in a browser: what is clicked is done, and what others send is not."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from chromium import LOOKS, Watched
from cli_app import dbq, start

from dbbasic_queue import Queue

HOSTILE = "<script>document.title='taken'</script>"
CONFIG = """
name = "shop"
[queue]
file = "queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[[recurring]]
name = "nightly-report"
type = "report"
schedule = "0 2 * * *"
payload = { sales = true }
"""
JOBS = """
import os

def mail(payload):
    if not os.path.exists("mended"):
        raise OSError(payload["error"])
    return "sent"

HANDLERS = {"mail": mail, "report": lambda payload: "made"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application in which a job has failed with a hostile error, and one waits."""
    (tmp_path / "dbq.toml").write_text(CONFIG)
    (tmp_path / "jobs.py").write_text(JOBS)
    queue = Queue(tmp_path / "queue.tsv")
    queue.enqueue("mail", {"error": HOSTILE, "to": HOSTILE}, job_id="m1")
    dbq("work", "--max-attempts", "1", "--quiet", cwd=tmp_path)
    queue.enqueue("report", {}, job_id="r1", run_at=queue.now() + 3600)
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """Where its page is served."""
    process = start("serve", "--port", "0", "--payloads", cwd=folder)
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    assert found
    yield found[0].rstrip(";")
    process.send_signal(signal.SIGINT)
    process.communicate()


def job(folder: Path, job_id: str) -> dict[str, Any]:
    found = Queue(folder / "queue.tsv").get_job(job_id)
    assert found
    return found


def said(seen: Watched) -> str:
    """What the page says of the last click."""
    return seen.page.get_by_role("status").inner_text()


def test_retry_is_clicked_and_the_job_runs(
    folder: Path, address: str, watch: Callable[..., Watched]
) -> None:
    """What the button says is what becomes of the job; nothing is done twice by a reload."""
    seen = watch()
    seen.page.goto(address)
    assert job(folder, "m1")["status"] == "failed"
    seen.page.get_by_role("button", name="Retry mail").click()
    assert said(seen) == "1 job put back, due now."
    (folder / "mended").touch()
    dbq("work", "--quiet", cwd=folder)
    assert (job(folder, "m1")["status"], job(folder, "m1")["result"]) == ("completed", "sent")
    seen.page.reload()
    assert seen.page.get_by_role("status").count() == 0
    assert seen.page.get_by_text("No job has failed.").is_visible()
    assert seen.said == []


def test_each_button_does_what_it_says(
    folder: Path, address: str, watch: Callable[..., Watched]
) -> None:
    """Pause, resume, run now of a job that waits and of a recurring one, cancel."""
    seen, queue = watch(), Queue(folder / "queue.tsv")
    seen.page.goto(address)
    seen.page.get_by_role("button", name="Pause report").click()
    assert [pause.type for pause in queue.paused()] == ["report"]
    seen.page.get_by_role("button", name="Resume report").click()
    assert queue.paused() == []
    seen.page.get_by_role("button", name="Run now r1").click()
    assert job(folder, "r1")["run_at"] <= queue.now()
    seen.page.get_by_role("button", name="Run now nightly-report").click()
    assert "nightly-report is enqueued as " in said(seen)
    assert [each["payload"] for each in queue.list_jobs("pending", "report")][1:] == [
        {"sales": True}
    ]
    seen.page.get_by_role("button", name="Cancel r1").click()
    assert (said(seen), job(folder, "r1")["status"]) == ("r1 is cancelled.", "cancelled")
    assert seen.said == []


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_is_fit_to_be_read(look: str, address: str, watch: Callable[..., Watched]) -> None:
    """With its buttons, by each eye and by a reader of the screen; the hostile text is text."""
    seen = watch(look)
    seen.page.goto(address)
    seen.page.get_by_role("button", name="Pause report").click()
    assert HOSTILE in seen.page.locator("main").inner_text()
    assert seen.page.title() == "WARNING: shop"
    assert not seen.is_wider_than_the_window()
    seen.keep(f"page-{look}")
    assert seen.violations() == []
    assert seen.said == []
    assert {url.split("/")[2] for url in seen.requests if not url.startswith("data:")} == {
        address.split("/")[2]
    }


class Foreign(BaseHTTPRequestHandler):
    """Another site, with a form that is sent to the page as soon as it is seen."""

    address = ""

    def do_GET(self) -> None:
        text = (
            f'<form method="post" action="{self.address}"><input name="act" value="cancel">'
            '<input name="id" value="r1"><input name="token" value="x"><button>Win</button></form>'
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_the_form_of_another_site_does_nothing(
    folder: Path, address: str, watch: Callable[..., Watched]
) -> None:
    """Though the browser has the cookie of the page, it gets 403."""
    Foreign.address = address
    with HTTPServer(("127.0.0.1", 0), Foreign) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        seen = watch()
        seen.page.goto(address)
        seen.page.goto(f"http://localhost:{server.server_port}/")
        with seen.page.expect_response(address) as answered:
            seen.page.get_by_role("button").click()
        server.shutdown()
    assert answered.value.status == 403
    assert job(folder, "r1")["status"] == "pending"


def test_a_token_that_is_missing_does_nothing(
    folder: Path, address: str, watch: Callable[..., Watched]
) -> None:
    """Nor one of another page, though the click is made on the page itself."""
    for token in ("", "x" * 32):
        seen = watch()
        seen.page.goto(address)
        forge = "([name, value]) => document.getElementsByName(name).forEach(e => e.value = value)"
        seen.page.evaluate(forge, ["token", token])
        with seen.page.expect_response(address) as answered:
            seen.page.get_by_role("button", name="Cancel r1").click()
        assert answered.value.status == 403
    assert job(folder, "r1")["status"] == "pending"
