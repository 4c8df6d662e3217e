"""The page: who may see it, which clicks count, and what they do."""

from __future__ import annotations

import base64
import io
import os
import re
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

import pytest

from dbbasic_queue import ConfigError, Queue
from dbbasic_queue.config.sections import parse
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.views import guard as guard_module
from dbbasic_queue.views.acts import acts_of
from dbbasic_queue.views.guard import Guard, read_passwords
from dbbasic_queue.views.page import Page, asked_by_wsgi
from dbbasic_queue.views.reading import Reader

CONFIG = """
[queue]
file = "queue.tsv"
[worker]
handlers = "jobs:HANDLERS"
[[recurring]]
name = "nightly"
type = "report"
schedule = "0 2 * * *"
"""
FORM = "application/x-www-form-urlencoded"


class Browser:
    """What a browser sends to a page, and what it keeps of the answers."""

    def __init__(self, page: Page) -> None:
        self.page = validator(page)
        self.cookies: dict[str, str] = {}
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.text = ""

    def ask(self, method: str = "GET", form: dict[str, str] | None = None, **more: str) -> int:
        body = urlencode(form or {}).encode()
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost:8053",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        if method == "POST":
            environ |= {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(len(body))}
            environ["HTTP_ORIGIN"] = "http://localhost:8053"
        environ |= more

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            self.status, self.headers = int(status[:3]), headers

        answer = self.page({k: v for k, v in environ.items() if v is not None}, start_response)
        self.text = b"".join(answer).decode()
        answer.close()  # type: ignore[attr-defined]
        for name, value in self.headers:
            if name == "Set-Cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return self.status

    def click(self, act: str, form: dict[str, str] | None = None, **more: str) -> int:
        """Send a form as the page has it, with the token that it was given."""
        token = self.cookies.get("dbq", "")
        return self.ask("POST", {"token": token, "act": act, **(form or {})}, **more)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.tsv", "normal")


def page_of(queue: Queue, guard: Guard | None = None, **options: Any) -> Page:
    config = parse(CONFIG, queue.path.parent / "dbq.toml")
    acts = options.pop("acts", None)
    return Page(
        Reader(queue, check=partial(check_health, queue.path), advice=Advice([])),
        guard or Guard(),
        acts_of(queue, config) if acts is None else acts,
        **options,
    )


@pytest.fixture
def browser(queue: Queue) -> Browser:
    """One that has looked at the page of a queue with a job in it."""
    queue.enqueue("mail", {}, job_id="m1", run_at=queue.now() + 3600)
    found = Browser(page_of(queue))
    assert found.ask() == 200
    return found


def test_a_click_is_done_once_and_told(browser: Browser, queue: Queue) -> None:
    """The answer leads back to the page, which says it one time."""
    assert browser.click("cancel", {"id": "m1"}) == 303
    assert dict(browser.headers)["Location"] == "/"
    assert queue.get_job("m1")["status"] == "cancelled"
    browser.ask()
    assert "m1 is cancelled." in browser.text
    (said,) = (value for _, value in browser.headers if value.startswith("dbq-said="))
    assert said.endswith("; Max-Age=0")
    browser.cookies.pop("dbq-said")
    browser.ask()
    assert "m1 is cancelled." not in browser.text


def test_each_button_does_what_it_says(browser: Browser, queue: Queue) -> None:
    """Pause, resume, run now of a recurring job and of one that waits, retry of a kind."""
    browser.click("pause", {"type": "mail"})
    assert [pause.type for pause in queue.paused()] == ["mail"]
    browser.click("resume", {"type": "mail"})
    assert queue.paused() == []
    browser.click("hasten", {"id": "m1"})
    assert queue.find_job("m1").run_at <= queue.now()
    browser.click("run-now", {"name": "nightly"})
    assert [job["type"] for job in queue.list_jobs()] == ["mail", "report"]
    queue.process_jobs({"mail": lambda payload: 1 / 0}, types=["mail"], max_attempts=1)
    kind = {"type": "mail", "error": "ZeroDivisionError: division by zero", "waiting": "0"}
    browser.click("retry-kind", kind)
    assert queue.get_job("m1")["status"] == "pending"
    browser.ask()
    assert "1 job put back, due now." in browser.text


FORGED: dict[str, dict[str, Any]] = {
    "no token": {"token": ""},
    "another token": {"token": "x" * 32},
    "no cookie": {"HTTP_COOKIE": ""},
    "an empty cookie and token": {"token": "", "HTTP_COOKIE": "dbq="},
    "another origin": {"HTTP_ORIGIN": "http://evil.example"},
    "another port": {"HTTP_ORIGIN": "http://localhost:80"},
    "an origin that is hidden": {"HTTP_ORIGIN": "null"},
    "half an origin": {"HTTP_ORIGIN": "http://["},
    "no origin": {"HTTP_ORIGIN": None},
    "another site": {"HTTP_SEC_FETCH_SITE": "cross-site"},
    "no form": {"CONTENT_TYPE": "text/plain"},
    "an act that there is not": {"act": "prune"},
    "a field too few": {"id": None},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_click_does_nothing(what: str, browser: Browser, queue: Queue) -> None:
    """It gets 403, and the job is as it was."""
    fields = {"token": browser.cookies["dbq"], "act": "cancel", "id": "m1"}
    given = FORGED[what]
    form = {name: given.get(name, value) for name, value in fields.items()}
    headers = {name: value for name, value in given.items() if name.isupper()}
    form = {name: value for name, value in form.items() if value is not None}
    assert browser.ask("POST", form, **headers) == 403
    assert queue.get_job("m1")["status"] == "pending"


def test_what_is_said_fits_a_cookie(browser: Browser) -> None:
    """A browser keeps none of more than 4096 bytes; a long text is cut."""
    browser.click("pause", {"type": "\U0001f5c2" * 2000})
    assert len(browser.cookies["dbq-said"]) < 4000
    browser.ask()
    assert "It was not done: " in browser.text


class Silent(io.BytesIO):
    """What a client sends that stops before its end."""

    def read(self, *_: Any) -> bytes:
        raise TimeoutError("timed out")


class Endless(io.BytesIO):
    """What a client sends that never stops."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("it was read")


def test_a_form_without_end_is_not_read(browser: Browser) -> None:
    """What says that it is longer than a form of ours is left where it is."""
    given: dict[str, Any] = {"CONTENT_LENGTH": str(10**8), "wsgi.input": Endless()}
    assert browser.ask("POST", {}, **given) == 403
    digits = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": FORM, "CONTENT_LENGTH": "9" * 5000}
    assert asked_by_wsgi({**digits, "wsgi.input": Endless()}).form == {}


def test_a_form_that_stops_does_nothing(browser: Browser) -> None:
    """It is refused, as one without a token."""
    given: dict[str, Any] = {"CONTENT_LENGTH": "100", "wsgi.input": Silent()}
    assert browser.ask("POST", {}, **given) == 403


def login(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


PASSWORDS = Guard(frozenset({"queue.example"}), {"zoe": "s3cret-s3cret"})
PROXY = Guard(proxy=("10.0.0.2", "X-User"))


@pytest.mark.parametrize(
    ("guard", "headers", "status"),
    [
        (Guard(), {}, 200),
        (Guard(), {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:8053"}, 200),
        (Guard(), {"REMOTE_ADDR": "10.0.0.5"}, 403),
        (Guard(), {"REMOTE_ADDR": ""}, 403),
        (Guard(), {"HTTP_HOST": "evil.example:8053"}, 403),
        (Guard(), {"HTTP_HOST": "[::1"}, 403),
        (Guard(), {"HTTP_HOST": "localhost:8053@evil.example"}, 403),
        (Guard(), {"HTTP_X_USER": "zoe", "REMOTE_ADDR": "10.0.0.2"}, 403),
        (Guard(), {"HTTP_X_FORWARDED_FOR": "10.0.0.5"}, 403),
        (Guard(), {"HTTP_FORWARDED": "for=10.0.0.5"}, 403),
        (PASSWORDS, {}, 401),
        (PASSWORDS, {"HTTP_AUTHORIZATION": login("zoe", "s3cret-s3cret")}, 200),
        (PASSWORDS, {"HTTP_AUTHORIZATION": login("zoe", "s3cret")}, 401),
        (PASSWORDS, {"HTTP_AUTHORIZATION": login("ben", "")}, 401),
        (PASSWORDS, {"HTTP_AUTHORIZATION": "Basic ä"}, 401),
        (PASSWORDS, {"HTTP_HOST": "evil.example"}, 403),
        (
            PASSWORDS,
            {"HTTP_AUTHORIZATION": login("zoe", "s3cret-s3cret"), "HTTP_X_REAL_IP": "10.0.0.5"},
            200,
        ),
        (PROXY, {"REMOTE_ADDR": "10.0.0.2"}, 403),
        (PROXY, {"REMOTE_ADDR": "10.0.0.2", "HTTP_X_USER": "zoe", "HTTP_HOST": "any"}, 200),
        (PROXY, {"REMOTE_ADDR": "10.0.0.3", "HTTP_X_USER": "zoe"}, 403),
    ],
)
def test_who_is_answered(guard: Guard, headers: dict[str, str], status: int, queue: Queue) -> None:
    """This machine by a name of its own; others with a password, or by a proxy that knows them."""
    queue.enqueue("mail", {})
    assert Browser(page_of(queue, guard)).ask(**headers) == status


def test_with_a_password_from_another_machine(queue: Queue) -> None:
    """By a name that is known, and with a click."""
    queue.enqueue("mail", {}, job_id="m1")
    browser = Browser(page_of(queue, PASSWORDS))
    more = {
        "REMOTE_ADDR": "10.0.0.5",
        "HTTP_HOST": "queue.example",
        "HTTP_AUTHORIZATION": login("zoe", "s3cret-s3cret"),
    }
    assert browser.ask(**more) == 200
    more["HTTP_ORIGIN"] = "https://queue.example"
    assert browser.click("cancel", {"id": "m1"}, **more) == 303


def test_a_page_that_only_shows_has_no_button(queue: Queue) -> None:
    """It says why, and a click that is sent all the same does nothing."""
    queue.enqueue("mail", {}, job_id="m1")
    browser = Browser(page_of(queue, acts={}, why="Only to look at."))
    browser.ask()
    assert "<button" not in browser.text
    assert "Only to look at." in browser.text
    assert browser.click("cancel", {"id": "m1"}) == 403


def test_other_addresses_and_methods_are_refused(browser: Browser) -> None:
    """There is one page, which is shown and clicked on."""
    assert browser.ask(PATH_INFO="/etc/passwd") == 404
    assert browser.ask("DELETE") == 405
    assert (browser.ask("HEAD"), browser.text) == (200, "")
    assert int(dict(browser.headers)["Content-Length"]) > 1000


def test_an_answer_is_for_this_page_only(browser: Browser) -> None:
    """It is not kept nor framed, takes nothing from elsewhere, and its cookies stay here."""
    browser.click("cancel", {"id": "m1"})
    clicked = browser.headers
    browser.ask()
    for headers in (clicked, browser.headers):
        said = dict(headers)
        assert said["Cache-Control"] == "no-store"
        assert said["X-Content-Type-Options"] == "nosniff"
        policy = said["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"} <= {*policy}
        cookies = [value for name, value in headers if name == "Set-Cookie"]
        assert cookies
        assert all("; HttpOnly; SameSite=Strict" in cookie for cookie in cookies)


def test_what_strangers_wrote_stays_text(queue: Queue) -> None:
    """In the page, in the fields of its forms, and in what it says of a click."""
    hostile = '"><script>alert(1)</script>'
    queue.enqueue("mail", {}, job_id="m1")
    browser = Browser(page_of(queue))
    browser.ask(HTTP_COOKIE=f'dbq="{hostile}"; dbq-said=%22%3E%3Cscript%3E')
    assert "<script>" not in browser.text
    assert re.fullmatch("[A-Za-z0-9_-]{32}", browser.cookies["dbq"])
    browser.ask(HTTP_COOKIE="dbq=<script>alert(1)</script><!--that-is-long-enough-->")
    assert "<script>" not in browser.text
    assert re.fullmatch("[A-Za-z0-9_-]{32}", browser.cookies["dbq"])


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("zoe:s3cret-s3cret\n", 0o644, "chmod 0600"),
        ("zoe:short\n", 0o600, "8 characters or more"),
        ("# none\n", 0o600, "must hold lines"),
        ("s3cret-s3cret\n", 0o600, "must hold lines"),
    ],
    ids=("readable", "short", "empty", "nameless"),
)
def test_a_password_file_has_to_be_a_secret(
    text: str, mode: int, said: str, tmp_path: Path
) -> None:
    """And to hold names with passwords that are not guessed at once."""
    file = tmp_path / "users"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=said):
        read_passwords(file)
    file.write_text("# people\nzoe:a:b c d e f\n")
    file.chmod(0o600)
    assert read_passwords(file) == {"zoe": "a:b c d e f"}


def test_a_password_file_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That user could change it: only files of one's own and of root's are read."""
    file = tmp_path / "users"
    file.write_text("zoe:s3cret-s3cret\n")
    file.chmod(0o600)
    monkeypatch.setattr(guard_module, "ROOT", -1)
    assert read_passwords(file)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="it belongs to"):
        read_passwords(file)
