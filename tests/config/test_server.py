"""A queue on a server in the config: its address, and the file that keeps a secret one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbbasic_queue.config.sections import Config, parse
from dbbasic_queue.config.url_file import read_url_file
from dbbasic_queue.errors import ConfigError

WORKER = '[worker]\nhandlers = "a.b:C"\n'


def config(queue: str, worker: str = "") -> Config:
    return parse(f'name = "shop"\n[queue]\n{queue}\n{WORKER}{worker}', "/srv/shop/dbq.toml")


def secret(path: Path, text: str = "redis://:secret@h/0\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_address_names_the_queue() -> None:
    """The config's name is the queue's on the server, if the address names none."""
    assert config('url = "redis://h/0"').address() == "redis://h/0?name=shop"
    assert config('url = "redis://h/0?name=all"').address() == "redis://h/0?name=all"
    assert config('file = "q.tsv"').address() == Path("/srv/shop/q.tsv")


def test_a_password_is_not_shown() -> None:
    """What messages show of the address has no password in it."""
    found = config('url = "redis://:secret@h/0"')
    assert found.address() == "redis://:secret@h/0?name=shop"
    assert found.shown_address == "redis://:***@h/0?name=shop"
    assert config('url_file = "u"').shown_address == "/srv/shop/u"


def test_how_a_server_is_opened() -> None:
    """Durability, lease and trust go with the queue; a file has the first of them only."""
    options = config('url = "redis://h"\ntrust_server = true', 'lease = "20s"\n').queue_options
    assert options == {"durability": "full", "lease": 20, "trust_server": True}
    assert config('file = "q.tsv"\ndurability = "normal"').queue_options == {"durability": "normal"}


@pytest.mark.parametrize(
    ("queue", "worker", "said"),
    [
        ("", "", "[queue].file: is missing"),
        ('file = "q.tsv"\nurl = "redis://h"', "", "[queue].url: is one too many"),
        ('url = "redis://h"\nurl_file = "u"', "", "[queue].url_file: is one too many"),
        ('url = "file:///q.tsv"', "", "is not the address of a server"),
        ('url = "q.tsv"', "", "is not the address of a server"),
        ('url = "redis://:sec ret@h"', "", "'redis://:***@h' is not the address of a server"),
        ('url = "redis:/:secret@h/0"', "", "'***@h/0' is not the address of a server"),
        ('file = "q.tsv"\ndurability = "none"', "", "[queue].durability: must be"),
        ('url = "redis://h"', 'hardening = "isolated"\n', 'server; write "network"'),
    ],
)
def test_faults(queue: str, worker: str, said: str) -> None:
    """Of file, url and url_file there is one; what a server cannot have is refused."""
    with pytest.raises(ConfigError) as caught:
        config(queue, worker)
    assert said in str(caught.value)
    assert "sec ret" not in str(caught.value)


def test_a_socket_needs_no_network() -> None:
    """Jobs that have no network reach a server on the same machine by its socket."""
    found = config('url = "unix:///run/redis.sock"', 'hardening = "isolated"\n')
    assert found.worker.hardening == "isolated"


def test_a_url_file_is_read(tmp_path: Path) -> None:
    """One line is the address; comments and empty lines are left aside."""
    path = secret(tmp_path / "u", "# the queue\n\n  redis://:secret@h/0  \n")
    assert read_url_file(path) == "redis://:secret@h/0"
    assert config(f'url_file = "{path}"').address() == "redis://:secret@h/0?name=shop"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644], ids=oct)
def test_a_url_file_is_for_one_user(tmp_path: Path, mode: int) -> None:
    """A file that others can read or write is refused, and the command that mends it is named."""
    path = secret(tmp_path / "u", mode=mode)
    with pytest.raises(ConfigError, match=f"chmod 0600 {path}"):
        read_url_file(path)


@pytest.mark.parametrize(
    "text", ["", "# none\n", "queue.tsv\n", "redis://a\nredis://b\n", "file:/x"]
)
def test_a_url_file_holds_one_address(tmp_path: Path, text: str) -> None:
    """Anything else is refused, and not shown."""
    with pytest.raises(ConfigError, match="must hold one line, the address of a server") as caught:
        read_url_file(secret(tmp_path / "u", text))
    assert "queue.tsv" not in str(caught.value)


def test_a_url_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder are told by name; a pipe is not waited for."""
    with pytest.raises(ConfigError, match="No such file"):
        read_url_file(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        read_url_file(tmp_path / "pipe")
