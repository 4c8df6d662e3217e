"""Something else stands in the place of a log, a textfile, a config or a manifest; or is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from house import House, command
from obstacles import OBSTACLES
from parties import ROOT, SHARED, WORKER, as_user, own

from dbbasic_queue.cli import health, install
from dbbasic_queue.cli import main as dbq
from dbbasic_queue.schedule import marks

CONFIG = """
name = "shop"
[queue]
file = "{folder}/queue.tsv"
[worker]
handlers = "house:HANDLERS"
user = "daemon"
python = "/usr/bin/python3"
[log]
file = "/var/log/dbq-trust-shop.log"
"""


def _is_untouched(house: House) -> bool:
    status = house.victim.stat()
    return (
        house.victim.read_text() == "the victim's own text\n"
        and (status.st_uid, status.st_mode & 0o777) == (WORKER.uid, 0o600)
        and not house.victim.with_name("made-by-root").exists()
    )


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_in_place_of_the_log(house: House, obstacle: str) -> None:
    """A job's type is text of a producer's: it goes into no other file, and nothing hangs."""
    log = house.folder / "worker.log"
    OBSTACLES[obstacle](log, house.victim)
    words = ["work", "house:HANDLERS", "--file", house.table, "--log-file", log]
    ran = command(WORKER, dbq.main, *words)
    assert ran.code in (0, 2), ran
    assert "Traceback" not in ran.text
    assert _is_untouched(house)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_in_place_of_the_textfile(house: House, obstacle: str) -> None:
    """It is replaced as a name, or refused; what a link leads to stays as it is."""
    textfile = house.folder / "dbq.prom"
    OBSTACLES[obstacle](textfile, house.victim)
    ran = command(WORKER, health.main, "--file", house.table, "--textfile", textfile)
    assert ran.code in (0, 1, 2, 3), ran
    assert "error in the check" not in ran.text, ran
    assert _is_untouched(house)


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("user", [ROOT, WORKER], ids=lambda user: user.name)
def test_in_place_of_the_config(house: House, obstacle: str, user: object) -> None:
    """A clear error; the text of the file that a link leads to is not told."""
    config = house.folder.parent / "dbq.toml"
    OBSTACLES[obstacle](config, house.victim)
    party = ROOT if user is ROOT else WORKER
    for main, words in ((dbq.main, ["list"]), (dbq.main, ["check"]), (install.cron, ["--print"])):
        ran = command(party, main, *words, "--config", config)
        assert ran.code == 2, ran
        assert "Traceback" not in ran.text
        if party is ROOT:
            assert "victim's own" not in ran.text
    assert _is_untouched(house)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_in_place_of_a_manifest(house: House, obstacle: str) -> None:
    """An installer refuses, or replaces the name; it deletes nothing that a stranger names."""
    root = house.folder.parent / "image"
    manifest = root / "var/lib/dbbasic-queue/installed/shop.cron.json"
    manifest.parent.mkdir(parents=True)
    (root / "etc/cron.d").mkdir(parents=True)
    config = house.folder.parent / "dbq.toml"
    config.write_text(CONFIG.format(folder=house.folder))
    OBSTACLES[obstacle](manifest, house.victim)
    ran = command(ROOT, install.cron, "--system", "--root", root, "--config", config)
    assert ran.code in (0, 1, 2), ran
    assert "Traceback" not in ran.text
    assert _is_untouched(house)


def _stale(path: Path) -> Path:
    path.write_text("of a killed process, with a payload")
    own(path, WORKER, 0o600)
    then = time.time() - 30 * 86400
    os.utime(path, (then, then))
    return path


def test_temporary_files_of_killed_processes_go(house: House) -> None:
    """Of the table, the marks, the textfile: the next that writes the same file removes them."""
    name = "0123456789ab.tmp~"
    left = [
        _stale(house.folder / f".{file}.{name}")
        for file in ("queue.tsv", "queue.recurring", "dbq.prom")
    ]
    as_user(WORKER, lambda: house.queue().prune_jobs(0))

    def mark() -> None:
        with marks.locked(marks.marks_file(house.table)) as held:
            held.all["shop", "nightly"] = marks.Mark(1, "* * * * *")
            held.save()

    as_user(WORKER, mark)
    words = ["--file", house.table, "--textfile", house.folder / "dbq.prom"]
    command(WORKER, health.main, *words)
    assert not [path for path in left if path.exists()]
    assert house.beside("recurring").stat().st_mode & 0o777 == 0o640
    assert house.beside("recurring").stat().st_gid == SHARED
