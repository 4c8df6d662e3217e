"""Rotation rules name the log, nothing but the log, and logrotate itself agrees."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from parties import open_place

from dbbasic_queue.config import sections as configs
from dbbasic_queue.config.sections import Config
from dbbasic_queue.errors import InstallError, QueueError
from dbbasic_queue.install import log_owner, logrotate
from dbbasic_queue.install.log_owner import give_log, rotation_fault
from dbbasic_queue.install.logrotate import LogrotateTarget
from dbbasic_queue.install.plan import apply, remove
from dbbasic_queue.install.site import Site
from dbbasic_queue.support.account import Account

RULES = """\
"/var/log/myapp/dbq.log" {
    su nobody nogroup
    weekly
    rotate 5
    missingok
    notifempty
    nocopy
    nocopytruncate
    create
    noolddir
    compress
    delaycompress
}
"""


def load(log: str = "/var/log/myapp/dbq.log", more: str = 'user = "nobody"') -> Config:
    text = f"""
        name = "myapp"
        queue.file = "/var/lib/myapp/queue.tsv"
        log = {{ file = "{log}", frequency = "weekly", rotate = 5 }}
        [worker]
        handlers = "myapp:H"
        {more}
    """
    return configs.parse(text, "/etc/myapp/dbq.toml")


@pytest.fixture
def image(tmp_path: Path) -> LogrotateTarget:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("nobody:x:65534:65534::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("nogroup:x:65534:\n")
    return LogrotateTarget(Site(root=tmp_path))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A logrotate that prints what the test put beside it."""
    path = tmp_path / "logrotate"
    path.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\n")
    path.chmod(0o755)
    (tmp_path / "said").write_text("considering log /var/log/myapp/dbq.log\n")
    return path


def test_the_rules_are_what_the_log_needs(image: LogrotateTarget) -> None:
    """Renamed, not copied; compressed one round later; as the worker's user and group."""
    (file,) = image.render(load()).files
    text = file.text.decode()
    assert text.endswith("\n\n" + RULES)
    assert "dbq-install-logrotate --config /etc/myapp/dbq.toml\n" in text
    assert (file.path, file.mode) == (Path("/etc/logrotate.d/dbq-myapp"), 0o644)


def test_in_a_folder_of_roots_logrotate_stays_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user it could not rename the log there; the new log has the old one's owner."""
    monkeypatch.setattr(logrotate, "is_roots", lambda folder: True)
    (file,) = LogrotateTarget(Site()).render(load()).files
    assert b"    su " not in file.text
    assert b"\n    create\n" in file.text
    monkeypatch.setattr(logrotate, "is_roots", lambda folder: False)
    (file,) = LogrotateTarget(Site()).render(load()).files
    assert b"\n    su nobody nogroup\n" in file.text


def test_a_folder_in_which_no_one_can_rotate_is_told(tmp_path: Path) -> None:
    """Neither the worker's user nor, by logrotate's own rules, root could rename the log."""
    me = Account.find(None)
    assert me is not None
    log = tmp_path / "dbq.log"
    assert rotation_fault(log, me) is None
    assert rotation_fault(tmp_path / "missing" / "dbq.log", me) is None
    tmp_path.chmod(0o777)
    stranger = me._replace(name="zoe", uid=me.uid + 1)
    assert "only in a folder of zoe's" in str(rotation_fault(log, stranger)).replace("a\n", "a")


def test_the_log_is_given_to_the_worker(tmp_path: Path) -> None:
    """In a folder of root's it is made beforehand; what is not plainly a log is left alone."""
    me = Account.find(None)
    assert me is not None
    log = tmp_path / "dbq.log"
    if me.uid != 0:
        assert give_log(log, me) == []
        assert not log.exists(), "not a folder of root's"
        return
    nobody = Account.find("nobody")
    assert nobody is not None
    assert give_log(log, nobody) == []
    assert (log.stat().st_uid, log.stat().st_mode & 0o777) == (nobody.uid, 0o640)
    victim = tmp_path / "victim"
    victim.touch()
    for stranger in (lambda: log.symlink_to(victim), lambda: os.link(victim, log), log.mkdir):
        log.unlink()
        stranger()
        (said,) = give_log(log, nobody)
        assert "was left as it is" in said
        assert victim.stat().st_uid == 0


def test_a_newline_in_the_configs_path_is_refused(image: LogrotateTarget) -> None:
    """It would end the comment that names the config, and begin a directive of root's."""
    config = configs.parse(
        'name = "a"\nqueue.file = "/q.tsv"\nlog.file = "/l"\n'
        'worker = { handlers = "a:H", user = "nobody" }\n',
        "/srv/x/dbq.toml",
    )
    hostile = replace(config, path=Path("/srv/x\n/etc/shadow {\n}\n/dbq.toml"))
    with pytest.raises(InstallError, match="control character"):
        image.render(hostile)


def test_the_group_is_that_of_the_image(image: LogrotateTarget, tmp_path: Path) -> None:
    """In an image its own passwd counts; a user that comes later has a group of the same name."""
    (tmp_path / "etc/group").write_text("other:x:1:\nworkers:x:65534:\n")
    assert b"su nobody workers\n" in image.render(load()).files[0].text
    assert b"su app app\n" in image.render(load(more='user = "app"')).files[0].text


@pytest.mark.parametrize("live", [True, False], ids=["here", "image"])
def test_a_group_without_a_name_is_told(
    live: bool, image: LogrotateTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As users of a directory service may have; logrotate would pass over the whole file."""
    target = LogrotateTarget(Site()) if live else image
    (tmp_path / "etc/group").write_text("other:x:1:\n")

    def nameless(gid: int) -> grp.struct_group:
        raise KeyError(gid)

    monkeypatch.setattr(grp, "getgrgid", nameless)
    with pytest.raises(InstallError, match=r"has no name here.*groupadd --gid \d+ NAME"):
        target.render(load())


@pytest.mark.parametrize("name", ["x'y", 'x\\"y', "x*", "x?", "[x]", "{x}", "x\\\\y", "x~"])
def test_a_name_that_logrotate_reads_otherwise_is_refused(
    name: str, image: LogrotateTarget
) -> None:
    """Wildcards, quotes and braces could match the queue, or anything."""
    with pytest.raises(InstallError, match="a meaning of its own"):
        image.render(load(f"/var/log/{name}"))


@pytest.mark.parametrize("name", ["queue.tsv", "queue.lock", "queue.claims", "x/../queue.tsv"])
def test_the_queue_is_never_rotated(name: str, image: LogrotateTarget) -> None:
    """A log that is one of the queue's own files is refused, by the config already."""
    with pytest.raises(QueueError, match="queue's own files"):
        image.render(load(f"/var/lib/myapp/{name}"))


def test_a_link_to_the_queue_is_never_rotated(image: LogrotateTarget, tmp_path: Path) -> None:
    """Not under another name either."""
    (tmp_path / "queue.tsv").touch()
    (tmp_path / "log").symlink_to(tmp_path / "queue.tsv")
    config = configs.parse(
        f'name = "a"\nqueue.file = "{tmp_path}/queue.tsv"\nlog.file = "{tmp_path}/log"\n'
        'worker = { handlers = "a:H", user = "nobody" }\n',
        "/etc/dbq.toml",
    )
    with pytest.raises(InstallError, match="queue's own files"):
        image.render(config)


def test_what_is_missing_is_told(image: LogrotateTarget) -> None:
    """No [log], or no user to rotate it as."""
    with pytest.raises(InstallError, match=r"\[worker\]\.user is missing"):
        image.render(load(more=""))
    config = configs.parse(
        'name = "a"\nqueue.file = "/q.tsv"\nworker.handlers = "a:H"\n', "/etc/dbq.toml"
    )
    with pytest.raises(InstallError, match=r"no \[log\] section"):
        image.render(config)


def test_an_unknown_user_is_told_on_the_live_system() -> None:
    """logrotate would skip the whole file."""
    with pytest.raises(InstallError, match="no user 'no-such-user'"):
        LogrotateTarget(Site()).render(load(more='user = "no-such-user"'))


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("considering log /var/log/myapp/dbq.log\n", None),
        (
            "error: dbq-myapp:3 unknown user 'x'\nconsidering log /var/log/myapp/dbq.log\n",
            "unknown",
        ),
        ("", "would rotate []"),
        ("considering log /var/log/myapp/dbq.log\nconsidering log /etc/passwd\n", "/etc/passwd"),
        (
            "considering log /var/log/myapp/dbq.log\n"
            "  log /var/log/myapp/dbq.log is symbolic link. Rotation of symbolic links is not "
            "allowed to avoid security issues -- skipping.\n",
            "symbolic link",
        ),
        ("considering log /var/log/myapp/dbq.log\n  log x does not exist -- skipping\n", None),
        (
            "considering log /var/log/myapp/dbq.log\n"
            "error: x:1 duplicate log entry for /var/log/myapp/dbq.log\n",
            "duplicate",
        ),
    ],
)
def test_what_logrotate_finds_wrong_is_told(
    said: str, fault: str | None, program: Path, image: LogrotateTarget, tmp_path: Path
) -> None:
    """Its own dry run is asked: errors, and which logs it would rotate."""
    (tmp_path / "said").write_text(said)
    target = LogrotateTarget(image.site, str(program))
    found = target.verify(image.render(load()), load())
    assert (fault in found[0]) if fault else (found == [])


def test_a_log_that_another_file_rotates_is_told(
    program: Path, image: LogrotateTarget, tmp_path: Path
) -> None:
    """logrotate would skip the second of two rules for one log."""
    (tmp_path / "etc/logrotate.d").mkdir()
    (tmp_path / "etc/logrotate.d/other").touch()
    log = "/var/log/myapp/dbq.log"
    program.write_text(
        f"#!/bin/sh\necho considering log {log}\n"
        f'case "$*" in */other*) echo "error: x:1 duplicate log entry for {log}";; esac\n'
    )
    (fault,) = LogrotateTarget(image.site, str(program)).verify(image.render(load()), load())
    assert "another file in /etc/logrotate.d rotates" in fault


def test_without_logrotate_the_live_system_is_refused(image: LogrotateTarget) -> None:
    """An image may get its logrotate later."""
    wanted = image.render(load())
    assert LogrotateTarget(image.site, "/no/logrotate").verify(wanted, load()) == []
    (fault,) = LogrotateTarget(Site(), "/no/logrotate").verify(wanted, load())
    assert "install the package logrotate" in fault


def test_install_status_and_removal(image: LogrotateTarget, program: Path, tmp_path: Path) -> None:
    """The status tells the last rotation from logrotate's own state file."""
    target = LogrotateTarget(image.site, str(program))
    entries = target.render(load()).entries
    apply(target, load())
    assert apply(target, load()).in_sync
    state = tmp_path / "var/lib/logrotate/status"
    state.parent.mkdir(parents=True)
    state.write_text(
        'logrotate state -- version 2\n"/var/log/x" 2026-1-1-0:0:0\n'
        '"/var/log/myapp/dbq.log" 2026-11-23-6:25:1\n'
    )
    (entry,) = target.status(entries, None)
    assert (entry.label, entry.schedule) == ("/var/log/myapp/dbq.log", "weekly")
    assert entry.last_run == datetime(2026, 11, 23, 6, 25, 1).astimezone()
    state.write_text('"/var/log/myapp/dbq.log" never\n')
    assert target.status(entries, None)[0].last_run is None
    assert target.traces("myapp") == [Path("/etc/logrotate.d/dbq-myapp")]
    remove(target, "myapp")
    assert target.traces("myapp") == []
    assert os.listdir(tmp_path / "etc/logrotate.d") == []


def test_hourly_rotation_is_said_to_need_more(image: LogrotateTarget) -> None:
    """logrotate itself mostly runs once a day."""
    assert image.notes(load()) == []
    text = """
        name = "a"
        queue.file = "/q.tsv"
        worker = { handlers = "a:H", user = "nobody" }
        log = { file = "/l", frequency = "hourly" }
    """
    (note,) = image.notes(configs.parse(text, "/etc/dbq.toml"))
    assert "once a day" in note


def test_options_of_the_whole_machine_do_not_reach_the_log(
    tmp_path: Path, image: LogrotateTarget
) -> None:
    """A `copy` in /etc/logrotate.conf would leave the log as it is, an `olddir` move it away."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no logrotate here")
    log, rules = tmp_path / "dbq.log", tmp_path / "rules"
    log.write_text("a line\n")
    before = "copy\ncopytruncate\nolddir /no/where\nifempty\nnocreate\n"
    rules.write_bytes(before.encode() + image.rules(load(str(log)), None))
    rules.chmod(0o644)
    command = [program, "--force", "--state", str(tmp_path / "state"), str(rules)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ((tmp_path / "dbq.log.1").read_text(), log.read_text()) == ("a line\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="logrotate becomes another user, as root only can")
@pytest.mark.parametrize(
    ("line", "works"),
    [("su nobody nogroup", False), ("su root adm", True), ("# su nobody nogroup", True)],
    ids=["nobody", "root", "comment"],
)
def test_a_user_for_all_logs_is_told_where_the_folder_is_roots(
    line: str, works: bool, image: LogrotateTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `su` in /etc/logrotate.conf it would not be root there; one in a block is not for all."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no logrotate here")
    with open_place() as place:
        log, conf = place / "dbq.log", place / "logrotate.conf"
        log.write_text("a line\n")
        before = f"/no/where {{\n    missingok\n    su nobody nogroup\n}}\n{line}\n"
        conf.write_bytes(before.encode() + image.rules(load(str(log)), None))
        conf.chmod(0o644)
        monkeypatch.setattr(log_owner, "CONF", conf)
        nobody = Account.find("nobody")
        assert nobody is not None
        fault = rotation_fault(log, nobody)
        assert (fault is None) == works
        if fault is not None:
            assert f"{conf} says su nobody for all logs" in fault
        command = [program, "--force", "--state", str(place / "state"), str(conf)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert ((place / "dbq.log.1").exists(), done.returncode == 0) == (works, works), done.stderr
