"""Pings arrive as healthchecks.io expects them, and the textfile is whole, or as it was."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ping_service import Service

from dbbasic_queue import StorageError
from dbbasic_queue.health.push import address, ping, write_textfile


@pytest.fixture
def service() -> Iterator[Service]:
    """A service to ping."""
    with Service() as server:
        yield server


def test_start_success_and_failure(service: Service) -> None:
    """The URL itself means success, /start and /fail the others; a text goes along."""
    assert ping(service.url, "start")
    assert ping(service.url, "success", "DBQ OK: ¾ done")
    assert ping(service.url, "failure", "DBQ CRITICAL: 1 stuck job")
    agent = service.requests[0][3]
    assert agent.startswith("dbbasic-queue/")
    assert service.requests == [
        ("GET", "/abc/start", "", agent),
        ("POST", "/abc", "DBQ OK: ¾ done", agent),
        ("POST", "/abc/fail", "DBQ CRITICAL: 1 stuck job", agent),
    ]


@pytest.mark.parametrize(
    ("url", "kind", "expected"),
    [
        ("https://hc.example/abc", "success", "https://hc.example/abc"),
        ("https://hc.example/abc/", "success", "https://hc.example/abc/"),
        ("https://hc.example/abc/", "start", "https://hc.example/abc/start"),
        (
            "https://hc.example/key/slug?create=1",
            "start",
            "https://hc.example/key/slug/start?create=1",
        ),
        ("http://hc.example:8000", "failure", "http://hc.example:8000/fail"),
        ("http://hc.example/abc#x", "success", "http://hc.example/abc"),
    ],
)
def test_where_a_ping_goes(url: str, kind: str, expected: str) -> None:
    """The suffix follows the path, in front of a query."""
    assert address(url, kind) == expected


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hc.example/abc", "begin"),
        ("file:///etc/passwd", "start"),
        ("ftp://hc.example/abc", "start"),
        ("https:///abc", "start"),
    ],
)
def test_what_is_no_ping_is_refused(url: str, kind: str) -> None:
    """Another kind, or a URL that is not http, is a mistake of the caller."""
    with pytest.raises(ValueError, match="must be"):
        ping(url, kind)


@pytest.mark.parametrize("status", [404, 500])
def test_a_service_that_refuses(
    service: Service, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """An error of the service is logged with the host's name, not with the secret URL."""
    service.status = status
    with caplog.at_level(logging.WARNING, "dbbasic_queue"):
        assert not ping(service.url, "start")
    assert f"the start ping to 127.0.0.1 failed: HTTP {status}" in caplog.text
    assert "abc" not in caplog.text


def test_a_service_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """A service that does not listen is logged, and nothing is raised."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/abc"
        assert not ping(url, "success")
    assert "Connection refused" in caplog.text


def test_a_service_that_never_answers(caplog: pytest.LogCaptureFixture) -> None:
    """A service that accepts and says nothing is given up."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not ping(f"http://127.0.0.1:{silent.getsockname()[1]}/", "start", seconds=0.3)
    assert "no answer within 0.3 s" in caplog.text


def test_a_service_that_speaks_nonsense(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that is not HTTP is a failed ping."""

    def babble() -> None:
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"\x00\x01\r\n\r\n")
        connection.close()

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = threading.Thread(target=babble)
        thread.start()
        assert not ping(f"http://127.0.0.1:{server.getsockname()[1]}/", "start")
        thread.join()
    assert "BadStatusLine" in caplog.text


# -- the textfile ----------------------------------------------------------------------------------


def test_it_is_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    """The collector is another user: mode 0644, under a umask that forbids it."""
    path = tmp_path / "dbq.prom"
    before = os.umask(0o077)
    try:
        write_textfile(path, "dbq_up 1\n")
        write_textfile(path, "dbq_up 0\n")
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("dbq_up 0\n", 0o644)
    assert os.listdir(tmp_path) == ["dbq.prom"]


def test_it_is_renamed_from_a_name_that_the_collector_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file stands in the same folder, does not end in .prom, and is whole."""
    path = tmp_path / "dbq.prom"
    path.write_text("old")
    seen = []
    rename = os.rename

    def look(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        new = tmp_path / source
        seen.append((new.suffix, new.read_text(), new.stat().st_mode))
        assert path.read_text() == "old"
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", look)
    write_textfile(path, "new")
    assert seen == [(".tmp~", "new", 0o100644)]


@pytest.mark.parametrize("step", ["open", "write", "fchmod", "rename"])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A disk that refuses at any step leaves the old file and nothing else."""
    path = tmp_path / "dbq.prom"
    path.write_text("old")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StorageError, match="No space left on device"):
            write_textfile(path, "new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["dbq.prom"])


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """The folder belongs to the collector: it is not created."""
    with pytest.raises(StorageError, match="No such file or directory"):
        write_textfile(tmp_path / "nowhere" / "dbq.prom", "")
