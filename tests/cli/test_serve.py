"""The command `dbq serve`, and the page as other servers have it."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cli_app import dbq, queue_of, start

from dbbasic_queue.admin import ADMIN_CONFIG
from dbbasic_queue.api import queue as handler
from dbbasic_queue.cli import serve
from dbbasic_queue.cli.common import UsageError

WITHOUT_WAITRESS = "import sys; sys.modules['waitress'] = None; from dbbasic_queue.cli.main"


@pytest.fixture(params=["waitress", "wsgiref"])
def port(request: pytest.FixtureRequest, app: Path) -> Iterator[int]:
    """Of a page that is served, by each of the servers."""
    queue_of(app).enqueue("ok", {}, job_id="j1")
    with served(request.param, app) as port:
        yield port


@contextmanager
def served(server: str, app: Path, *options: str) -> Iterator[int]:
    """Serve the page of a queue by one of the servers."""
    words = ("serve", "--port", "0", *options)
    if server == "waitress":
        pytest.importorskip("waitress")
        process = start(*words, cwd=app)
    else:
        code = f"{WITHOUT_WAITRESS} import main; sys.exit(main({list(words)}))"
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=app, stderr=subprocess.PIPE, text=True
        )
    assert process.stderr is not None
    said = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    assert found, said
    yield int(found[1])
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""


def ask(port: int, method: str = "GET", body: str = "", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, "/", body, named)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), answer.getheader("Set-Cookie") or ""
    connection.close()
    return found


def test_a_page_is_served_and_clicked(port: int, app: Path) -> None:
    """On this machine; the click of another page is refused."""
    status, text, cookie = ask(port)
    assert (status, "Due next" in text) == (200, True)
    token = cookie.partition("=")[2].partition(";")[0]
    form = urlencode({"token": token, "act": "cancel", "id": "j1"})
    headers = {"Cookie": f"dbq={token}", "Content_Type": "application/x-www-form-urlencoded"}
    assert ask(port, "POST", form, **headers, Origin="http://evil.example")[0] == 403
    assert queue_of(app).get_job("j1")["status"] == "pending"
    assert ask(port, "POST", form, **headers, Origin=f"http://127.0.0.1:{port}")[0] == 303
    assert queue_of(app).get_job("j1")["status"] == "cancelled"
    assert ask(port, Host="evil.example")[0] == 403


def test_a_slow_browser_holds_up_no_other(port: int) -> None:
    """Nor do ten, in the middle of their requests."""
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    for each in slow:
        each.sendall(b"GET / HTTP/1.1\r\nHo")
    assert ask(port)[0] == 200
    for each in slow:  # with a reset, of which nothing is said
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()
    assert ask(port)[0] == 200


def test_a_body_that_is_too_long_is_not_awaited(port: int) -> None:
    """It is refused before it has come, and so is kept nowhere."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as browser:
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {2 * 10**9}\r\n\r\n"
        browser.sendall(head.encode())
        assert re.match(rb"HTTP/1\.[01] (403|413) ", browser.recv(100))


@pytest.mark.parametrize("server", ["waitress", "wsgiref"])
def test_only_the_proxy_s_header_is_its_word(server: str, app: Path) -> None:
    """One that WSGI calls the same can be a stranger's, which the proxy has handed on."""
    if server == "waitress":
        pytest.importorskip("waitress")
    queue_of(app).enqueue("ok", {})
    with served(server, app, "--proxy", "127.0.0.1", "X-User") as port:
        for header, status in (("X-User: zoe", 200), ("X_User: zoe", 403)):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as proxy:
                head = f"GET / HTTP/1.1\r\nHost: shop.example\r\n{header}\r\n\r\n"
                proxy.sendall(head.encode())
                assert proxy.recv(100).split()[1] == str(status).encode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bind", "0.0.0.0"), "give --password-file, or --proxy"),
        (("--password-file", "none"), "none: cannot be read"),
        (("--file", "typo.tsv"), "typo.tsv (--file); the first"),
    ],
    ids=("open", "password", "queue"),
)
def test_mistakes_are_told(app: Path, words: tuple[str, ...], said: str) -> None:
    """Before anything is served."""
    queue_of(app).enqueue("ok", {})
    done = dbq("serve", *words, cwd=app)
    assert (done.returncode, said in done.stderr) == (2, True)


@pytest.fixture
def alone(app: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An application in whose process the page is."""
    monkeypatch.chdir(app)
    for name in ("DBQ_FILE", "DBQ_URL", "DBQ_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    queue_of(app).enqueue("ok", {}, job_id="j1")
    serve.page.cache_clear()
    yield app
    serve.page.cache_clear()


def test_options_of_the_callable_are_in_the_environment(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `dbq serve` takes them."""
    from dbbasic_queue.web import app as callable_

    monkeypatch.setenv("DBQ_SERVE", "--read-only --proxy '' X-User")
    said: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": "", "HTTP_X_USER": "zoe"}
    text = b"".join(callable_(environ, lambda *answer: said.append(answer))).decode()
    assert said[0][0] == "200 OK"
    assert "it was started with --read-only" in text


def test_the_callable_refuses_what_the_command_does(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be reached by other machines, it takes a password file or a proxy."""
    monkeypatch.setenv("DBQ_SERVE", "--bind 0.0.0.0")
    with pytest.raises(UsageError, match="give --password-file, or --proxy"):
        serve.page()


def request_of(method: str, client: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """A request as dbbasic-web 0.1.11 makes it."""
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"client": (client, 5), "method": method}
    return {
        "method": method,
        "path": "/admin/queue",
        "headers": named,
        "body": body,
        "scope": scope,
    }


def test_dbbasic_web_finds_the_page(alone: Path) -> None:
    """At the place that the menu of dbbasic-admin leads to; clicks come back there."""
    (entry,) = ADMIN_CONFIG
    assert (entry["href"], set(entry)) == ("/admin/queue", {"icon", "label", "href", "order"})
    status, headers, body = handler.GET(request_of("GET", "127.0.0.1", host="localhost"))
    assert (status, b'action="/admin/queue"' in b"".join(body)) == (200, True)
    token = dict(headers)["Set-Cookie"].partition("=")[2].partition(";")[0]
    form = urlencode({"token": token, "act": "cancel", "id": "j1"}).encode()
    sent = {
        "host": "localhost",
        "content_type": "application/x-www-form-urlencoded",
        "cookie": f"dbq={token}",
    }
    forged = request_of("POST", "127.0.0.1", form, **sent, origin="http://evil.example")
    assert handler.POST(forged)[0] == 403
    assert queue_of(alone).get_job("j1")["status"] == "pending"
    own = request_of("POST", "127.0.0.1", form, **sent, origin="http://localhost")
    assert handler.POST(own)[0] == 303
    assert queue_of(alone).get_job("j1")["status"] == "cancelled"


def test_dbbasic_web_answers_no_stranger(alone: Path) -> None:
    """From another machine, only a user who is logged in by dbbasic-accounts."""
    assert handler.GET(request_of("GET", "10.0.0.5", host="shop.example"))[0] == 403
