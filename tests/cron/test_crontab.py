"""A user's crontab is read and written without the loss of a byte, or not at all."""

from __future__ import annotations

from pathlib import Path

import fake_crontab
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbbasic_queue.cron.block import markers
from dbbasic_queue.cron.crontab import CrontabBlocks, UserCrontab, block_path
from dbbasic_queue.errors import InstallError
from dbbasic_queue.install.site import Site, Wanted

BLOCK = b"\n".join([*markers("myapp")[:1], b"* * * * * true", *markers("myapp")[1:], b""])
PATH = block_path(fake_crontab.USER, "myapp")
# What crontab(1) has installed is the spool's text without its header.
texts = st.one_of(
    st.lists(
        st.one_of(st.binary(max_size=20), st.sampled_from([b"# a", b"a\\rb", b"x\r", b"\b", b""]))
    ).map(lambda lines: b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)),
    st.just(fake_crontab.HEADER),
).filter(lambda text: b"SYNTAX" not in text)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_CRONTAB", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.fixture
def crontab(spool: Path, tmp_path: Path) -> UserCrontab:
    return UserCrontab(fake_crontab.USER, fake_crontab.install(f"{tmp_path}/crontab"))


@pytest.fixture
def store(crontab: UserCrontab, tmp_path: Path) -> CrontabBlocks:
    return CrontabBlocks(Site(fake_crontab.USER, home=tmp_path / "home"), crontab)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts)
def test_any_crontab_survives_a_block_byte_for_byte(
    text: bytes, spool: Path, store: CrontabBlocks
) -> None:
    """Bytes that `crontab -l` hides or shows as others are the same after install and removal."""
    spool.write_bytes(fake_crontab.HEADER + text)
    store.write([Wanted(PATH, BLOCK, 0o600)])
    assert spool.read_bytes() == fake_crontab.HEADER + BLOCK + text
    store.delete(PATH)
    assert (spool.read_bytes() if spool.exists() else fake_crontab.HEADER) == (
        fake_crontab.HEADER + text
    )


def test_comments_that_crontab_would_take_for_its_header_are_kept(
    spool: Path, store: CrontabBlocks
) -> None:
    """A crontab that another program put into the spool has no header, but may begin with `#`."""
    text = b"# mine 1\n# mine 2\n# mine 3\n@daily x\n"
    spool.write_bytes(text)
    store.write([Wanted(PATH, BLOCK, 0o600)])
    assert spool.read_bytes() == fake_crontab.HEADER + BLOCK + text


def test_no_crontab_is_an_empty_one(
    spool: Path, crontab: UserCrontab, store: CrontabBlocks
) -> None:
    """Without a crontab there is nothing to keep, and none is left after removal."""
    assert crontab.read() == b""
    store.write([Wanted(PATH, BLOCK, 0o600)])
    assert crontab.read() == BLOCK
    store.delete(PATH)
    assert not spool.exists()


@pytest.mark.parametrize(
    "said",
    [
        "You (tester) are not allowed to use this program (crontab)",
        "/var/spool/cron/crontabs/tester/: fopen: Input/output error",
        "no crontab for testerx",
        "no crontab for tester\nand more",
        "",
    ],
)
def test_any_other_failure_is_not_taken_for_an_empty_crontab(
    said: str, spool: Path, store: CrontabBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only "no crontab for" this very user means that there is none; else nothing is written."""
    spool.write_bytes(b"@daily x\n")
    monkeypatch.setenv("FAKE_FAILURE", said)
    with pytest.raises(InstallError, match="cannot read the crontab of tester"):
        store.write([Wanted(PATH, BLOCK, 0o600)])
    assert spool.read_bytes() == b"@daily x\n"


def test_what_crontab_refuses_leaves_the_old_one(spool: Path, store: CrontabBlocks) -> None:
    """A foreign line with a syntax error is crontab's to refuse, with its own words."""
    spool.write_bytes(b"SYNTAX\n")
    with pytest.raises(InstallError, match="bad minute"):
        store.write([Wanted(PATH, BLOCK, 0o600)])
    assert spool.read_bytes() == b"SYNTAX\n"


def test_a_crontab_that_cannot_be_had_exactly_is_not_touched(
    spool: Path, store: CrontabBlocks
) -> None:
    """Where both readings disagree (no header, and a carriage return) nothing is written."""
    text = b"# not crontab's header\n@daily x\r\n"
    spool.write_bytes(text)
    with pytest.raises(InstallError, match="does not give it out exactly"):
        store.write([Wanted(PATH, BLOCK, 0o600)])
    assert spool.read_bytes() == text


def test_the_previous_text_is_kept(spool: Path, store: CrontabBlocks, tmp_path: Path) -> None:
    """Before each change the whole crontab is copied where only its owner can read it."""
    spool.write_bytes(fake_crontab.HEADER + b"@daily x\r\n\xff\n")
    store.write([Wanted(PATH, BLOCK, 0o600)])
    (copy,) = (tmp_path / "home/.local/state/dbbasic-queue/backups").iterdir()
    assert copy.read_bytes() == b"@daily x\r\n\xff\n"
    assert copy.stat().st_mode & 0o777 == 0o600


def test_what_changes_nothing_calls_no_write(spool: Path, store: CrontabBlocks) -> None:
    """A block that is there already, or gone already, is not written again."""
    spool.write_bytes(fake_crontab.HEADER + BLOCK)
    store.write([Wanted(PATH, BLOCK, 0o600)])
    store.delete(block_path(fake_crontab.USER, "other"))
    calls = Path(f"{spool}.calls").read_text().splitlines()
    assert calls == ["-u tester -l"] * 2


def test_a_missing_program_is_said_with_the_way_out() -> None:
    """No crontab(1): the error names it and the other installer."""
    with pytest.raises(InstallError, match="no /no/crontab command: install cron"):
        UserCrontab("tester", "/no/crontab").listing()


def test_a_program_that_is_for_others_is_said_with_the_way_out(tmp_path: Path) -> None:
    """As where only a group can run crontab(1); without the number of the system's error."""
    (tmp_path / "crontab").touch(mode=0o600)
    with pytest.raises(InstallError, match=r"^you have no permission .*-systemd$"):
        UserCrontab("tester", str(tmp_path / "crontab")).listing()


def test_the_blocks_of_two_names_share_the_crontab(spool: Path, store: CrontabBlocks) -> None:
    """Each is found by its name, and removing one leaves the other."""
    other = BLOCK.replace(b"myapp", b"other")
    store.write([Wanted(PATH, BLOCK), Wanted(block_path("tester", "other"), other)])
    assert sorted(store.names()) == ["myapp", "other"]
    store.delete(PATH)
    found = store.read(block_path("tester", "other"))
    assert found is not None
    assert found.text == other
    assert store.read(PATH) is None


def test_a_crontab_that_does_not_read_as_it_was_written_is_told(
    spool: Path, crontab: UserCrontab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is read again and compared: a loss is an error, not a success."""
    monkeypatch.setenv("FAKE_LOSS", "1")
    with pytest.raises(InstallError, match="does not read as it was written"):
        crontab.write(b"@daily backup\n@weekly report\n")


def test_only_the_header_of_crontab_s_own_is_taken_off(spool: Path, crontab: UserCrontab) -> None:
    """Comments at the top that are not crontab's stay, also if they speak of its header."""
    own = b"# DO NOT EDIT THIS FILE - edit the master and reinstall.\n# by zoe\n@daily backup\n"
    for text in (own, b"@daily backup\n" + fake_crontab.HEADER):
        spool.write_bytes(text)
        assert crontab.listing() == crontab.read() == text
