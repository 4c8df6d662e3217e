"""Which engine an address asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbbasic_queue import ConfigError, Queue
from dbbasic_queue.engines import open_engine


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/srv/app/queue.tsv", "/srv/app/queue.tsv"),
        (Path("/srv/app/queue.tsv"), "/srv/app/queue.tsv"),
        ("file:/srv/app/queue.tsv", "/srv/app/queue.tsv"),
        ("file:///srv/app/queue.tsv", "/srv/app/queue.tsv"),
        ("FILE:/srv/app/queue.tsv", "/srv/app/queue.tsv"),
        ("file:data/queue.tsv", f"{os.getcwd()}/data/queue.tsv"),
        ("data/a:b.tsv", f"{os.getcwd()}/data/a:b.tsv"),
        ("redis:queue.tsv", f"{os.getcwd()}/redis:queue.tsv"),  # not a URL: it has no //
    ],
)
def test_a_path_and_a_file_url_are_a_file(address: str | Path, path: str) -> None:
    """Also where a name has a colon in it."""
    assert str(open_engine(address).path) == path


@pytest.mark.parametrize("address", ["mysql://:secret@host/0", "POSTGRESQL://host/db", "x+y://z"])
def test_a_url_of_no_engine_is_refused_without_its_password(address: str) -> None:
    """The message names the schemes that there are; nothing is made of the rest as a path."""
    with pytest.raises(
        ConfigError, match=r"no engine for .*; use a path or one of file:"
    ) as caught:
        Queue(address)
    assert "secret" not in str(caught.value)


def test_an_engine_whose_packages_are_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of the package, and the extra that brings it."""
    for name in [name for name in sys.modules if name.startswith("dbbasic_queue.engines.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "rq", None)
    with pytest.raises(ConfigError, match=r"pip install 'dbbasic-queue\[redis\]'") as caught:
        open_engine("rediss://:secret@host/0")
    assert "secret" not in str(caught.value)


def test_the_file_engine_brings_in_no_server_engine() -> None:
    """Nor what it imports: a file's cold start is its own."""
    code = "import sys; from dbbasic_queue import Queue; Queue('x.tsv'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"redis", "rq", "dbbasic_queue.engines.redis"} & set(done.stdout.split())


def test_a_durability_that_does_not_exist_is_refused() -> None:
    """As for a path."""
    with pytest.raises(ValueError, match="durability 'fast'"):
        open_engine("file:/srv/app/queue.tsv", "fast")
