"""A user who cannot open a file learns from the kernel which of its bytes are locked."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tables import NOBODY, in_child, let_in, text, write

from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.engines.tsv import kernel_locks
from dbbasic_queue.engines.tsv.claims import Claims, byte_of
from dbbasic_queue.engines.tsv.engine import TsvEngine
from dbbasic_queue.engines.tsv.kernel_locks import is_locked

NOW = 1_700_000_000
in_the_first = pytest.mark.skipif(
    os.readlink(kernel_locks.NAMESPACE) != kernel_locks.FIRST, reason="not in a container"
)


@pytest.fixture
def claims(path: Path) -> Claims:
    """The claims of a table with a job that is processing, of which a reader can read the table."""
    write(path, text("a1", "processing", run_at=NOW))
    let_in(path.parent)
    claims = Claims(path.with_suffix(".claims"), path)
    claims.mark_run()
    claims.path.chmod(0o600)
    return claims


@in_the_first
def test_a_reader_learns_what_is_held(claims: Claims, path: Path) -> None:
    """A byte is locked while its claim is held, and free when it was given back."""
    byte = byte_of(b"a1")

    def asked() -> bool | None:
        return in_child(lambda: is_locked(claims.path, byte, path), user=NOBODY)

    assert asked() is False
    claim = claims.take(b"a1")
    assert claim is not None
    assert asked() is True
    claims.release(claim)
    assert asked() is False


@in_the_first
def test_the_claims_of_a_reader(claims: Claims, path: Path) -> None:
    """`is_held` asks the kernel where the file is closed to this user, in a check as in a list."""
    limits = Limits(NOW, NOW - 60, NOW - 60, NOW - 60, 5)

    def seen() -> tuple[int, int, str]:
        found = TsvEngine(path).snapshot(limits)
        return found.running, found.stuck, found.unknown

    assert in_child(seen, user=NOBODY) == (0, 1, "")
    assert claims.take(b"a1") is not None
    assert in_child(seen, user=NOBODY) == (1, 0, "")
    assert in_child(lambda: TsvEngine(path).running()[0].alive, user=NOBODY) is True


def test_a_reader_can_lock_nothing_of_ours(claims: Claims, path: Path) -> None:
    """The reader's own lock is on a byte of the table that no program asks for, and is gone."""

    def read() -> None:
        is_locked(claims.path, 7, path)

    in_child(read, user=NOBODY)
    assert f":{path.stat().st_ino} " not in Path(kernel_locks.LOCKS).read_text()


@pytest.mark.parametrize("lost", ["LOCKS", "NAMESPACE"])
def test_where_the_kernel_does_not_tell(
    claims: Claims, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Without /proc the answer is not known, and neither free nor held."""
    monkeypatch.setattr(kernel_locks, lost, str(tmp_path / "none"))
    assert is_locked(claims.path, 7, path) is None


def test_in_a_container_a_missing_line_says_nothing(
    claims: Claims, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks of processes outside can be missing; one that is listed is held."""
    monkeypatch.setattr(kernel_locks, "FIRST", "pid:[another]")
    assert is_locked(claims.path, byte_of(b"a1"), path) is None
    claims.take(b"a1")
    assert is_locked(claims.path, byte_of(b"a1"), path) is True


def test_a_file_system_with_other_numbers(
    claims: Claims, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even our own lock is found under its number, nothing is believed."""
    monkeypatch.setattr(kernel_locks, "_key", lambda status: f"00:63:{status.st_ino}")
    claims.take(b"a1")
    assert is_locked(claims.path, byte_of(b"a1"), path) is None


def test_what_is_missing_is_looked_for_twice(
    claims: Claims, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that the first look passes over, as another went away, is found by the second."""
    claims.take(b"a1")
    listed, looks = kernel_locks._listed, []

    def look(ends: float) -> Iterator[tuple[str, int, int]]:
        looks.append(1)
        return (lock for lock in listed(ends) if len(looks) > 1 or lock[1] != byte_of(b"a1"))

    monkeypatch.setattr(kernel_locks, "_listed", look)
    assert is_locked(claims.path, byte_of(b"a1"), path) is True
    assert len(looks) == 2


def test_a_list_that_another_user_has_made_long_is_not_read_for_ever(
    claims: Claims, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not known then what is locked, for a while; after that it is looked for again."""
    monkeypatch.setattr(kernel_locks, "PATIENCE", 0.2)
    monkeypatch.setattr(kernel_locks, "_spent", kernel_locks._Spent())
    byte = byte_of(b"a1")
    claims.take(b"a1")
    with subprocess.Popen(["yes", "1: FLOCK 0"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        with monkeypatch.context() as patch:
            patch.setattr(kernel_locks, "LOCKS", f"/proc/self/fd/{endless.stdout.fileno()}")
            patch.setattr(kernel_locks, "WINDOW", 3600.0)
            assert is_locked(claims.path, byte, path) is None
            patch.setattr(kernel_locks, "LOCKS", "/proc/locks")
            assert is_locked(claims.path, byte, path) is None
        endless.kill()
    monkeypatch.setattr(kernel_locks, "WINDOW", 0.0)
    monkeypatch.setattr(kernel_locks, "PATIENCE", 60.0)
    assert is_locked(claims.path, byte, path) is True


def test_the_lines_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks that are waited for, flocks and leases are not locks on bytes; EOF is the last byte."""
    listed = tmp_path / "locks"
    listed.write_text(
        "1: OFDLCK ADVISORY  WRITE -1 fe:00:11 5 9\n"
        "1: -> OFDLCK ADVISORY  WRITE -1 fe:00:12 5 9\n"
        "2: FLOCK  ADVISORY  WRITE 16204 00:2b:95 0 EOF\n"
        "3: POSIX  ADVISORY  READ 1465 fe:00:13 7 EOF\n"
        "4: LEASE  ACTIVE    READ 1465 fe:00:14 0 EOF\n"
    )
    monkeypatch.setattr(kernel_locks, "LOCKS", str(listed))
    assert list(kernel_locks._listed(math.inf)) == [
        ("fe:00:11", 5, 9),
        ("fe:00:13", 7, (1 << 63) - 1),
    ]
