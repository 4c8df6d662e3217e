"""Which engine an address asks for."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("address", ["redis://:secret@host/0", "POSTGRESQL://host/db", "x+y://z"])
def test_a_url_of_no_engine_is_refused_without_its_password(address: str) -> None:
    """The message names the schemes that there are; nothing is made of the rest as a path."""
    with pytest.raises(
        ConfigError, match=r"no engine for .*; use a path or one of file:"
    ) as caught:
        Queue(address)
    assert "secret" not in str(caught.value)


def test_a_durability_that_does_not_exist_is_refused() -> None:
    """As for a path."""
    with pytest.raises(ValueError, match="durability 'fast'"):
        open_engine("file:/srv/app/queue.tsv", "fast")
