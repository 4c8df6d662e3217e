"""The attacks on a queue: each is written as what a party tries, run as real users."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House
from parties import READER, WORKER, open_place, own

import dbbasic_queue
from dbbasic_queue.support import acl


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only root can become the users that attack each other."""
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="only root can become the users that attack each other")
        for item in items:
            if "/tests/trust/" in str(item.path):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _everything_imported() -> None:
    """The checkout may be closed to the users, so nothing is left to be imported by them."""
    "".encode("utf-8-sig")  # a codec is a module as well
    for module in pkgutil.walk_packages(dbbasic_queue.__path__, "dbbasic_queue."):
        if not module.name.endswith("__main__") and ".templates" not in module.name:
            importlib.import_module(module.name)


@pytest.fixture(scope="session")
def _built() -> Iterator[Path]:
    """A queue as a package sets it up, with one job done and one waiting."""
    with open_place() as top:
        house = _house_in(top)
        house.enqueue(WORKER)
        house.work()
        house.enqueue(WORKER)
        yield house.folder


@pytest.fixture
def house(_built: Path) -> Iterator[House]:
    """Such a queue, copied: to build one takes three processes."""
    with open_place() as top:
        house = _house_in(top)
        for file in _built.iterdir():
            status = file.stat()
            os.chown(shutil.copy2(file, house.folder), status.st_uid, status.st_gid)
        yield house


def _house_in(top: Path) -> House:
    folder, victim = top / "queue", top / "victim"
    folder.mkdir()
    own(folder, WORKER, 0o2750)
    fd = os.open(folder, os.O_RDONLY)
    acl.set_rights(fd, 0o2750, [acl.Named(8, READER.gid)], acl.ENTER)
    os.close(fd)
    victim.write_text("the victim's own text\n")
    own(victim, WORKER, 0o600)
    return House(folder, folder / "queue.tsv", victim)
