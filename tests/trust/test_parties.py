"""What each party may do by design, and what it may never do."""

from __future__ import annotations

import os
import shutil
import stat

import pytest
from house import House, command, outcome
from parties import PRODUCER, READER, ROOT, SHARED, WORKER, as_user, open_place, own

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.cli import health
from dbbasic_queue.cli import main as dbq
from dbbasic_queue.support.account import Account

BIG = "x" * 60_000


def test_a_producer_enqueues_looks_and_cancels(house: House) -> None:
    """And the worker runs what it enqueued."""
    first, second = house.enqueue(PRODUCER), house.enqueue(PRODUCER)
    assert as_user(PRODUCER, lambda: house.queue().cancel_job(second))
    assert house.work() == 2
    assert as_user(PRODUCER, lambda: house.queue().get_job(first))["status"] == "completed"


@pytest.mark.parametrize(
    "words",
    [["prune", "--older-than", "0"], ["edit"], ["work", "house:HANDLERS"]],
    ids=lambda words: words[0],
)
def test_what_a_producer_cannot_do_names_the_command(house: House, words: list[str]) -> None:
    """Exit code 2, and the line that runs it as the worker's user."""
    ran = command(PRODUCER, dbq.main, *words, "--file", house.table)
    assert ran.code == 2, ran
    assert f"sudo -u 61001 dbq {words[0]} --file {house.table}" in ran.err


def test_a_producer_restores_no_copy(house: House) -> None:
    """It could put in payloads of its own, for the worker to run; the jobs are as they were."""
    copy = house.folder.parent / "copy"
    as_user(ROOT, lambda: house.queue().backup(copy))
    copy.chmod(0o644)
    before = house.statuses()
    ran = command(PRODUCER, dbq.main, "restore", copy, "--file", house.table)
    assert (ran.code, ran.out) == (2, ""), ran
    assert f"sudo -u 61001 dbq restore {copy} --file {house.table}" in ran.err
    assert house.statuses() == before


def test_a_reader_is_told_who_can_do_more(house: House) -> None:
    """Exit code 2, and no bare error of the system."""
    ran = command(READER, dbq.main, "enqueue", "ok", "--file", house.table)
    assert (ran.code, ran.out) == (2, "")
    assert f"Permission denied: only 61001 and the group {SHARED} can write here" in ran.err


@pytest.mark.parametrize(("verb", "ending"), [("history", "history"), ("fsck", "paused")])
def test_a_reader_is_told_who_can_read_a_file(house: House, verb: str, ending: str) -> None:
    """Exit code 2, and no bare error of the system."""
    house.beside(ending).chmod(0o660)
    ran = command(READER, dbq.main, verb, "--file", house.table)
    assert (ran.code, ran.out) == (2, "")
    who = f"only 61001 and the group {SHARED} can read it"
    assert f"{house.beside(ending)}: Permission denied: {who}" in ran.err


@pytest.mark.parametrize("words", [["list"], ["show", "abcd"], ["prune", "--older-than", "1"]])
def test_a_folder_that_is_shut_is_named(house: House, words: list[str]) -> None:
    """With the user who can let others in: exit code 2, and no bare error of the system."""
    house.folder.chmod(0o700)
    ran = command(READER, dbq.main, *words, "--file", house.table)
    assert (ran.code, ran.out) == (2, "")
    assert f"no permission to enter {house.folder}, which is 61001's; run this as that" in ran.err


def test_a_producer_may_ask_what_a_prune_would_do(house: House) -> None:
    """A dry run writes nothing."""
    words = ["prune", "--older-than", "0", "--dry-run", "--file", house.table]
    ran = command(PRODUCER, dbq.main, *words)
    assert (ran.code, ran.out) == (0, "would remove 1 job\n")


def test_a_producer_mends_a_torn_end_but_no_more(house: House) -> None:
    """It sets the torn line aside as it appends; what needs a new table is the worker's."""
    with house.table.open("ab") as table:
        table.write(b"cut off")
    house.enqueue(PRODUCER)
    assert house.beside("torn").read_bytes() == b"cut off\n"
    with house.table.open("ab") as table:
        table.write(b"not a row at all\n")
    ran = command(PRODUCER, dbq.main, "fsck", "--repair", "--file", house.table)
    assert ran.code == 2
    assert "sudo -u 61001 dbq fsck --repair" in ran.err
    assert command(WORKER, dbq.main, "fsck", "--repair", "--file", house.table).code == 0


def test_a_producer_leaves_compaction_to_the_worker(house: House) -> None:
    """What it moved is compacted by the next run of the worker, with the rights as before."""
    ids = as_user(PRODUCER, lambda: house.queue().enqueue_many([("ok", {"x": BIG}, 4e9)] * 60))
    before = house.table.stat()

    def cancel() -> None:
        queue = house.queue()
        for job_id in ids:
            queue.cancel_job(job_id)
        queue.process_jobs({})

    with pytest.raises(StorageError, match="sudo -u 61001 dbq work"):
        as_user(PRODUCER, cancel)
    assert house.table.stat().st_ino == before.st_ino
    assert as_user(WORKER, lambda: house.queue().prune_jobs(0)) == 61
    after = house.table.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        *(WORKER.uid, SHARED, stat.S_IFREG | 0o660),
    )
    assert command(READER, dbq.main, "list", "--file", house.table).code == 0


def test_a_producer_changes_no_name_in_the_folder(house: House) -> None:
    """It can make, rename and remove nothing there, so no link can stand in for a file."""
    for attempt in (
        lambda: (house.folder / "queue.hint").symlink_to(house.victim),
        lambda: os.link(house.table, house.folder / "other.tsv"),
        lambda: house.beside("lock").unlink(),
        lambda: os.rename(house.beside("torn"), house.folder / "queue.gone"),
        lambda: (house.folder / ".local").mkdir(),
    ):
        with pytest.raises(PermissionError):
            as_user(PRODUCER, attempt)


def test_a_reader_looks(house: House) -> None:
    """It sees jobs, counts and health."""
    assert len(as_user(READER, lambda: list(house.queue().list_jobs()))) == 2
    assert as_user(READER, lambda: house.queue().count_jobs())["completed"] == 1
    ran = command(READER, health.main, "--file", house.table)
    assert ran.code in (0, 1), ran


@pytest.mark.parametrize(
    "ending", ["lock", "claims", "torn", "wake", "restart", "paused", "recurring", "rates"]
)
def test_a_reader_opens_no_other_file(house: House, ending: str) -> None:
    """A descriptor is enough to lock a file, so the reader gets none, not even for reading."""
    house.beside(ending).touch()
    own(house.beside(ending), WORKER, 0o640, SHARED)
    with pytest.raises(PermissionError):
        as_user(READER, lambda: os.open(house.beside(ending), os.O_RDONLY))


@pytest.mark.parametrize(
    "words",
    [
        ["enqueue", "ok"],
        ["cancel", "a1"],
        ["prune", "--older-than", "0"],
        ["fsck", "--repair"],
        ["work", "house:HANDLERS"],
    ],
    ids=lambda words: words[0],
)
def test_a_reader_changes_nothing(house: House, words: list[str]) -> None:
    """Each ends in exit code 1 or 2, and no byte is another."""
    before = {path.name: path.read_bytes() for path in house.folder.iterdir()}
    ran = command(READER, dbq.main, *words, "--file", house.table)
    assert ran.code in (1, 2), ran
    assert {path.name: path.read_bytes() for path in house.folder.iterdir()} == before


def test_root_leaves_no_file_of_its_own(house: House) -> None:
    """Whatever root does to the queue, each file is the worker's afterwards."""
    house.beside("torn").unlink()
    house.beside("wake").unlink()
    with house.table.open("ab") as table:
        table.write(b"cut off")
    for words in (["enqueue", "ok"], ["fsck", "--repair"], ["prune", "--older-than", "0"]):
        assert command(ROOT, dbq.main, *words, "--file", house.table).code == 0
    owners = {path.name: path.stat().st_uid for path in house.folder.iterdir()}
    assert set(owners.values()) == {WORKER.uid}, owners
    house.enqueue(PRODUCER)
    assert house.work() == 3


def test_root_runs_no_jobs_in_the_place_of_the_worker(house: House) -> None:
    """A program of root's own is told whom to be."""
    with pytest.raises(StorageError, match="sudo -u 61001 dbq work"):
        as_user(ROOT, lambda: house.queue().process_jobs({"ok": print}))


@pytest.mark.parametrize("user", [PRODUCER, READER, ROOT], ids=lambda user: user.name)
def test_an_empty_folder_is_its_owners(user: Account) -> None:
    """Another user gets an error with the command, root as well."""
    with open_place() as top:
        folder = top / "queue"
        folder.mkdir()
        own(folder, WORKER, 0o2750)
        said = outcome(user, lambda: Queue(folder / "queue.tsv").enqueue("ok", {}))
        assert "sudo -u 61001 dbq fsck --repair" in said or "Permission denied" in said
        assert not list(folder.iterdir())
        if user is ROOT:  # as a command, root becomes the owner
            assert (
                command(ROOT, dbq.main, "enqueue", "ok", "--file", folder / "queue.tsv").code == 0
            )
            assert {path.stat().st_uid for path in folder.iterdir()} == {WORKER.uid}


def test_one_user_needs_no_set_up() -> None:
    """The first job makes folder and table, as the umask says, and a lock for writers only."""
    with open_place() as top:
        own(top, WORKER, 0o755)
        table = top / "data" / "queue.tsv"

        def live() -> int:
            os.umask(0o022)
            queue = Queue(table)
            queue.enqueue("ok", {})
            return queue.process_jobs({"ok": lambda payload: None}).completed

        assert as_user(WORKER, live) == 1
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in table.parent.iterdir()}
        readable = {"queue.tsv": 0o644, "queue.history": 0o644}
        assert found == {**readable, "queue.lock": 0o600, "queue.claims": 0o600}


def test_dbq_init_makes_the_files_of_a_shared_queue() -> None:
    """As root for the worker's user, who owns the folder; the group may write at once."""
    with open_place() as top:
        folder = top / "data"
        folder.mkdir()
        shutil.chown(folder, "daemon", SHARED)
        folder.chmod(0o2750)
        words = ["init", "--name", "shop", "--user", "daemon", "--config", top / "dbq.toml"]
        assert command(ROOT, dbq.main, *words).code == 0
        found = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert found == dict.fromkeys(
            (".tsv", ".lock", ".torn", ".wake", ".restart", ".paused"), 0o660
        )
        assert {path.owner() for path in folder.iterdir()} == {"daemon"}
        as_user(PRODUCER, lambda: Queue(folder / "queue.tsv").enqueue("ok", {}))


def test_a_table_of_a_producers_becomes_the_workers(house: House) -> None:
    """2.0.0 left it to the user who compacted last; the next run of the worker mends that."""
    house.enqueue(PRODUCER)
    own(house.table, PRODUCER, 0o660, SHARED)
    assert house.work() == 2
    assert house.table.stat().st_uid == WORKER.uid
    assert house.statuses() == ["completed"] * 3
    house.enqueue(PRODUCER)


@pytest.mark.parametrize("ending", ["tsv", "lock"])
def test_a_producer_does_not_write_into_a_file_of_its_own(house: House, ending: str) -> None:
    """In the worker's folder only the worker's files and root's are the queue's."""
    own(house.beside(ending), PRODUCER, 0o660, SHARED)
    before = house.table.read_bytes()
    with pytest.raises(StorageError, match="it belongs to 61002, not to 61001"):
        house.enqueue(PRODUCER)
    assert house.table.read_bytes() == before


@pytest.mark.parametrize("ending", ["lock", "claims"])
def test_a_lock_file_of_a_producers_is_refused(house: House, ending: str) -> None:
    """It may be held, so it is not replaced; the error has the one command to run as root."""
    path = house.beside(ending)
    own(path, PRODUCER, 0o660, SHARED)
    before = path.stat().st_ino
    with pytest.raises(StorageError, match=f"as root: chown -h 61001 {path}"):
        house.work()
    assert path.stat().st_ino == before
    os.chown(path, WORKER.uid, -1)
    assert house.work() == 1
