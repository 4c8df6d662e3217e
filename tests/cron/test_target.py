"""From a config to crontab entries: what cron runs, as which user, where, with which variables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cron_reader
import fake_crontab
import pytest

from dbbasic_queue.config import sections as configs
from dbbasic_queue.config.sections import Config
from dbbasic_queue.cron import target as cron
from dbbasic_queue.cron.crontab import UserCrontab, block_path
from dbbasic_queue.cron.quoting import MAX_COMMAND
from dbbasic_queue.cron.target import CrontabTarget, CronTarget
from dbbasic_queue.errors import InstallError
from dbbasic_queue.install import entries as commands
from dbbasic_queue.install.manifest import load_manifest
from dbbasic_queue.install.plan import apply, plan_apply, remove
from dbbasic_queue.install.site import Site, Wanted
from dbbasic_queue.install.target import Entry, EntryStatus, Installation, Target

CONFIG = """\
name = "myapp"
[queue]
file = "/var/lib/myapp/queue.tsv"
[worker]
handlers = "myapp.jobs:HANDLERS"
python = "/srv/myapp/venv/bin/python"
directory = "/srv/myapp"
user = "nobody"
environment = { DJANGO_SETTINGS_MODULE = "myapp.settings" }
[[recurring]]
name = "nightly-report"
type = "generate_report"
schedule = "0 2 * * *"
catch_up = true
[prune]
completed = "7d"
[health]
"""
CRON_D = """\
# Background jobs of myapp.
#
# dbq-install-cron wrote this file from
#     /etc/myapp/dbq.toml
# Do not edit it here. Change that config, then run
#     dbq-install-cron --config /etc/myapp/dbq.toml --system
# To see what is installed, and to take it out again:
#     dbq-install-cron --status --name myapp --system
#     dbq-install-cron --remove --name myapp --system

SHELL=/bin/sh
PATH=/srv/myapp/venv/bin:/usr/local/bin:/usr/bin:/bin
DJANGO_SETTINGS_MODULE=myapp.settings

# Worker: runs the jobs that are due; every minute.
* * * * * nobody cd /srv/myapp && exec RUN work --quiet --config /etc/myapp/dbq.toml

# Recurring: enqueues nightly-report; at 02:00 every day.
0 2 * * * nobody cd /srv/myapp && exec RUN enqueue-recurring nightly-report --config \
/etc/myapp/dbq.toml >/dev/null

# Recurring: nightly-report, if a time was missed while the machine was off.
@reboot nobody cd /srv/myapp && exec RUN enqueue-recurring nightly-report --config \
/etc/myapp/dbq.toml >/dev/null

# Prune: deletes old jobs; at 03:30 every day.
30 3 * * * nobody cd /srv/myapp && exec RUN prune --config /etc/myapp/dbq.toml >/dev/null

# Health check: says nothing as long as all is well; every 5 minutes.
*/5 * * * * nobody : dbq myapp health check; cd /srv/myapp && exec RUN health --report --quiet \
--config /etc/myapp/dbq.toml
""".replace("RUN", "/srv/myapp/venv/bin/python -P -m dbbasic_queue")


def load(text: str = CONFIG, path: str = "/etc/myapp/dbq.toml") -> Config:
    return configs.parse(text, path)


@pytest.fixture
def folder(tmp_path: Path) -> CronTarget:
    return CronTarget(Site(root=tmp_path))


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CrontabTarget:
    monkeypatch.setenv("FAKE_CRONTAB", str(tmp_path / "spool"))
    crontab = UserCrontab(fake_crontab.USER, fake_crontab.install(f"{tmp_path}/crontab"))
    return CrontabTarget(Site(fake_crontab.USER, home=tmp_path / "home"), crontab)


def jobs(target: Target, config: Config) -> list[cron_reader.Job]:
    """The entries as cron reads them."""
    wanted = target.render(config)
    assert target.verify(wanted, config) == []
    return cron_reader.read(wanted.files[0].text, user_column=target.kind == "cron")


def test_the_file_is_pleasant_to_read(folder: CronTarget) -> None:
    """It says where it came from, how to change it and how to remove it, and what each line is."""
    (file,) = folder.render(load()).files
    assert file.text.decode() == CRON_D
    assert (file.path, file.mode) == (Path("/etc/cron.d/dbq-myapp"), 0o644)
    assert "." not in file.path.name


def test_the_block_carries_all_along(user: CrontabTarget) -> None:
    """No setting stands in a shared crontab: each entry has folder, PATH and variables itself."""
    (file,) = user.render(load()).files
    assert file.path == block_path("tester", "myapp")
    assert (file.text.startswith(b"# BEGIN"), file.text.endswith(b" myapp\n")) == (True, True)
    for job in jobs(user, load()):
        assert job.environment == {}
        assert b"cd /srv/myapp && exec /usr/bin/env PATH=/srv/myapp/venv/bin:" in job.command
        assert b" DJANGO_SETTINGS_MODULE=myapp.settings /srv/myapp" in job.command


def test_both_targets_have_the_same_entries(folder: CronTarget, user: CrontabTarget) -> None:
    """The same times and the same commands; the system's name their user."""
    ours, theirs = jobs(folder, load()), jobs(user, load())
    assert [job.when for job in ours] == [job.when for job in theirs]
    assert {job.user for job in ours} == {b"nobody"}
    assert ours[0].when == b"* * * * *"
    assert b"@reboot" in [job.when for job in ours]


def test_a_worker_with_a_log_is_not_told_to_be_quiet(folder: CronTarget) -> None:
    """Without [log] its log goes to standard error, which cron mails: only trouble, then."""
    assert b" work --quiet --config " in jobs(folder, load())[0].command
    text = CONFIG + '[log]\nfile = "/var/log/myapp/dbq.log"\n'
    assert b" work --config " in jobs(folder, load(text))[0].command


def test_umask_and_niceness_hold_under_cron_too(folder: CronTarget, tmp_path: Path) -> None:
    """Each entry runs with the umask and the niceness of [worker]."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\numask; nice\n")
    program.chmod(0o755)
    text = CONFIG.replace("/srv/myapp/venv/bin/python", str(program))
    text = text.replace('"/srv/myapp"', f'"{tmp_path}"\numask = "027"\nnice = 7')
    worker = jobs(folder, load(text))[0]
    nice = min(19, os.nice(0) + 7)  # on top of the tests' own
    assert cron_reader.run(worker, tmp_path).stdout == b"0027\n%d\n" % nice


@pytest.mark.parametrize("mailto", ["", "ops@example.com", "a@example.com,b@example.com"])
def test_mail_goes_where_the_config_says(mailto: str, folder: CronTarget) -> None:
    """[cron].mailto is cron's MAILTO for all entries of the file; empty, it means no mail."""
    for job in jobs(folder, load(CONFIG + f'[cron]\nmailto = "{mailto}"\n')):
        assert job.environment[b"MAILTO"] == mailto.encode()
    assert all(b"MAILTO" not in job.environment for job in jobs(folder, load()))


def test_only_what_the_config_has_is_scheduled(folder: CronTarget) -> None:
    """Without recurring, prune and health there is the worker alone."""
    text = CONFIG[: CONFIG.index("[[recurring]]")]
    assert len(jobs(folder, load(text))) == 1


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: the command of an entry says it many times, in 998 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


HOSTILE = [
    "a b", "it's", 'say "x"', "back\\slash", "two\\\\", "100%", "\\%", "%i", "$HOME", "$(id)",
    "`id`", "a;b", "a&b", "a|b", "a>b", "*", "#x", "!x", "~x", "-x", "Zoë 漢字", "[x]", "{a,b}",
    "x\u200by", "'; touch pwned; '", "\\n", "\\'", "END",
]  # fmt: skip


def toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("kind", ["cron", "cron-user"])
def test_hostile_strings_arrive_as_they_are(
    kind: str, tmp_path: Path, short: Path, folder: CronTarget, user: CrontabTarget
) -> None:
    """Program, folder, config, variables and environment file, through cron and the real sh."""
    target: Target = folder if kind == "cron" else user
    for number, word in enumerate(HOSTILE):
        base = short / str(number) / word
        base.mkdir(parents=True)
        program = cron_reader.recorder(base / f"python {word}")
        text = f"""\
            name = "myapp"
            queue.file = "queue.tsv"
            [worker]
            handlers = "myapp:H"
            user = "nobody"
            python = {toml(str(program))}
            directory = {toml(str(base))}
            environment_file = {toml(str(base / "env"))}
            environment = {{ RECORD = {toml(str(base / "record"))}, WORD = {toml(word)},
                QUOTED = {toml(f"'{word}'")}, SPACED = {toml(f" {word} ")} }}
            """.replace("},\n                QUOTED", "}, QUOTED").replace(
            ",\n                ", ", "
        )
        config = load(text, str(base / "dbq.toml"))
        (job,) = jobs(target, config)
        done = cron_reader.run(job, tmp_path)
        assert (done.returncode, done.stderr) == (0, b""), word
        ((arguments, environment, where),) = cron_reader.recorded(base / "record")
        launcher = ["-P", "-m", "dbbasic_queue", "env", str(base / "env"), str(program)]
        worker = ["-P", "-m", "dbbasic_queue", "work", "--quiet", "--config", f"{base}/dbq.toml"]
        assert arguments == [os.fsencode(word) for word in launcher + worker]
        assert where == os.fsencode(base)
        values = {"WORD": word, "QUOTED": f"'{word}'", "SPACED": f" {word} "}
        for name, value in values.items():
            assert environment[name.encode()] == value.encode()


def test_a_config_path_that_is_not_utf_8_arrives_as_it_is(
    tmp_path: Path, folder: CronTarget
) -> None:
    """The name of the config itself may be any bytes that a path can be."""
    base = os.fsdecode(os.fsencode(tmp_path) + b"/\xff caf\xe9")
    os.mkdir(base)
    program = cron_reader.recorder(tmp_path / "python")
    text = CONFIG.replace("/srv/myapp/venv/bin/python", str(program)).replace("/srv/", "/")
    text = text.replace('directory = "/myapp"', "").replace(
        "DJANGO_SETTINGS_MODULE = ", f'RECORD = "{tmp_path}/record", X = '
    )
    worker = jobs(folder, load(text, f"{base}/dbq.toml"))[0]
    assert cron_reader.run(worker, tmp_path).stderr == b""
    ((arguments, _, where),) = cron_reader.recorded(tmp_path / "record")
    assert arguments[-1] == os.fsencode(base) + b"/dbq.toml"
    assert where == os.fsencode(base)


@pytest.mark.parametrize("kind", ["cron", "cron-user"])
@pytest.mark.parametrize("path", ["/etc/x\n* * * * * root id #/dbq.toml", "/etc/\x1b[2J/dbq.toml"])
def test_a_newline_cannot_be_smuggled_in(
    kind: str, path: str, folder: CronTarget, user: CrontabTarget
) -> None:
    """The config's own path comes from the command line: a control character in it is refused."""
    target = folder if kind == "cron" else user
    with pytest.raises(InstallError, match="control character"):
        target.render(replace(load(), path=Path(path)))


def test_a_command_longer_than_cron_takes_is_refused(folder: CronTarget) -> None:
    """998 bytes are the most; one more, and cron would ignore the whole file."""
    (file,) = folder.render(load(CONFIG[: CONFIG.index("[[recurring]]")])).files
    line = file.text.splitlines()[-1]
    room = MAX_COMMAND - len(line.split(b" nobody ")[1])
    for extra, good in ((room, True), (room + 1, False)):
        path = "/etc/myapp/" + "x" * extra + "dbq.toml"
        wanted = folder.render(load(CONFIG[: CONFIG.index("[[recurring]]")], path))
        faults = cron.entry_faults(wanted, user_column=True)
        assert (faults == []) is good, faults
        if not good:
            assert "has 999 bytes, cron takes 998" in faults[0]
            with pytest.raises(ValueError, match="too long"):
                cron_reader.read(wanted.files[0].text, user_column=True)


@pytest.mark.parametrize("kind", ["cron", "cron-user"])
def test_ten_kilobytes_are_refused_and_nothing_is_written(
    kind: str, folder: CronTarget, user: CrontabTarget, tmp_path: Path
) -> None:
    """A value too long for any line is told with the way out."""
    target: Target = folder if kind == "cron" else user
    config = load(CONFIG.replace("myapp.settings", "x" * 10_000))
    with pytest.raises(InstallError, match="environment_file"):
        apply(target, config)
    assert not (tmp_path / "etc").exists()
    assert not (tmp_path / "spool").exists()


def test_a_system_file_needs_a_user_that_exists(tmp_path: Path) -> None:
    """cron ignores a whole file that names an unknown user; in an image it may be made later."""
    text = CONFIG.replace('"nobody"', '"no-such-user"')
    config = load(text)
    wanted = CronTarget(Site(root=tmp_path)).render(config)
    assert "there is no user 'no-such-user'" in CronTarget(Site()).verify(wanted, config)[0]
    assert CronTarget(Site(root=tmp_path)).verify(wanted, config) == []
    with pytest.raises(InstallError, match=r"\[worker\]\.user is missing"):
        CronTarget(Site()).render(load(CONFIG.replace('user = "nobody"\n', "")))


def test_a_program_that_env_would_misread_is_refused(user: CrontabTarget) -> None:
    """env(1) takes a word with = for a variable; the system's file needs no env."""
    text = CONFIG.replace("/srv/myapp/venv", "/srv/a=b/venv")
    with pytest.raises(InstallError, match="for a variable"):
        user.render(load(text))
    assert b"a=b" in jobs(CronTarget(Site()), load(text))[0].command


@pytest.mark.parametrize("fault", [b"MIN * * * * nobody true\n", b"@often nobody x\n"])
def test_a_faulty_file_would_be_noticed(fault: bytes, folder: CronTarget) -> None:
    """python-crontab reads the text again, and must find every entry that was to be written."""
    entries = (Entry("worker", "* * * * *", "true"), Entry("odd", "* * * * *", "true"))
    file = Wanted(Path("/etc/cron.d/dbq-x"), b"* * * * * nobody true\n" + fault)
    (said,) = cron.entry_faults(Installation((file,), entries, "nobody"), user_column=True)
    assert said == "python-crontab reads 1 valid entries where 2 were written"


def test_a_report_is_an_entry() -> None:
    """What it prints is not mailed, what goes wrong is."""
    text = CONFIG + '[report]\nfile = "/srv/www/queue.html"\nschedule = "@hourly"\n'
    entry = jobs(CronTarget(Site()), load(text))[-1]
    assert entry.command.endswith(b"report --scheduled --config /etc/myapp/dbq.toml >/dev/null")


def test_a_health_check_speaks_only_of_trouble(tmp_path: Path) -> None:
    """cron mails what is printed, and its subject is the command: this begins with what it is."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    text = CONFIG.replace("/srv/myapp/venv/bin/python", str(program)).replace(
        "/srv/myapp", str(tmp_path)
    )
    health = jobs(CronTarget(Site()), load(text))[-1]
    assert health.command.startswith(b": dbq myapp health check; ")
    said = b"-P -m dbbasic_queue health --report --quiet --config /etc/myapp/dbq.toml\n"
    assert cron_reader.run(health, tmp_path).stdout == said


def test_what_cron_cannot_do_is_told(folder: CronTarget, user: CrontabTarget) -> None:
    """Limits and the sandbox are systemd's, and a user's crontab has no mail of its own."""
    text = CONFIG.replace(
        'user = "nobody"', 'user = "nobody"\nmemory_max = "1G"\nwritable = ["/srv/up"]'
    )
    config = load(text + '[cron]\nmailto = "ops@example.com"\n')
    for target in (folder, user):
        told = " ".join(target.notes(config))
        assert "[worker].memory_max holds under systemd only" in told
        assert "[worker].writable holds under systemd only" in told
        assert "cpu_quota" not in told
        assert ("[cron].mailto" in told) is (target is user)


def test_a_niceness_that_cron_cannot_give_is_told(folder: CronTarget, user: CrontabTarget) -> None:
    """nice(1) complains at each run of a user without the limit, and cron mails what it says."""

    def told(target: Target, nice: int, worker: str = "nobody") -> list[str]:
        text = f'name = "a"\nqueue.file = "/q.tsv"\nworker.handlers = "a:H"\nworker.nice = {nice}\n'
        config = load(f'{text}worker.user = "{worker}"\n')
        return [note for note in target.notes(config) if "nice" in note]

    (said,) = told(folder, -5)
    assert "nobody - nice -5 in /etc/security/limits.d/" in said
    assert told(folder, 5) == told(folder, -5, "root") == []
    assert f"{user.user} - nice -5" in told(user, -5)[0]


def test_systemd_cron_is_a_cron(
    user: CrontabTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no daemon: that none runs is said only where nothing makes timers of crontabs."""
    monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(ProcessLookupError))
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    monkeypatch.setattr(cron, "GENERATORS", [tmp_path / "none"])
    assert any("no cron daemon runs" in note for note in user.notes(load()))
    monkeypatch.setattr(cron, "GENERATORS", [tmp_path])
    assert not any("no cron daemon runs" in note for note in user.notes(load()))


def test_install_change_and_removal_in_a_crontab(user: CrontabTarget, tmp_path: Path) -> None:
    """Through manifest and crontab(1): foreign lines stay, the second apply writes nothing."""
    foreign = b"SHELL=/bin/bash\n# caf\xe9\r\n@daily x # \\r\n\n"
    spool = tmp_path / "spool"
    spool.write_bytes(fake_crontab.HEADER + foreign)
    apply(user, load())
    first = spool.read_bytes()
    assert first.endswith(foreign)
    stamp = spool.stat().st_mtime_ns
    calls = Path(f"{spool}.calls")
    calls.unlink()
    assert apply(user, load()).in_sync
    assert (spool.stat().st_mtime_ns, calls.read_text()) == (stamp, "-u tester -l\n")
    apply(user, load(CONFIG.replace("0 2 * * *", "5 2 * * *")))
    assert b"\n5 2 * * *" in spool.read_bytes()
    apply(user, load(CONFIG.replace('"myapp"', '"other"'), "/etc/other/dbq.toml"))
    remove(user, "myapp")
    assert b"dbbasic-queue myapp" not in spool.read_bytes()
    assert b"# BEGIN dbbasic-queue other\n" in spool.read_bytes()
    remove(user, "other")
    assert spool.read_bytes() == fake_crontab.HEADER + foreign


def test_a_block_edited_by_hand_is_refused(user: CrontabTarget, tmp_path: Path) -> None:
    """An entry that was changed inside the block is shown and kept without force."""
    apply(user, load())
    spool = tmp_path / "spool"
    spool.write_bytes(spool.read_bytes().replace(b"\n0 2 * * *", b"\n7 7 * * *"))
    edited = spool.read_bytes()
    with pytest.raises(InstallError, match="changed by hand") as refusal:
        apply(user, load())
    assert re.search(r"-7 7 \* \* \*(.|\n)*\+0 2 \* \* \*", refusal.value.patch)
    with pytest.raises(InstallError, match="changed by hand"):
        remove(user, "myapp")
    assert spool.read_bytes() == edited
    apply(user, load(), force=True)
    assert plan_apply(user, load()).in_sync


def test_traces_are_found_without_a_manifest(
    user: CrontabTarget, folder: CronTarget, tmp_path: Path
) -> None:
    """A block or file that bears the name is found when the manifest was lost."""
    for target in (user, folder):
        assert target.traces("myapp") == []
        apply(target, load())
        assert len(target.traces("myapp")) == 1
        assert target.traces("other") == []


def test_a_shell_set_above_the_block_is_told(user: CrontabTarget, tmp_path: Path) -> None:
    """A block that was moved below a foreign SHELL= may be run by another shell."""
    apply(user, load())
    assert not any("SHELL" in note for note in user.notes(load()))
    spool = tmp_path / "spool"
    block = spool.read_bytes().removeprefix(fake_crontab.HEADER)
    spool.write_bytes(fake_crontab.HEADER + b"SHELL = /usr/bin/fish\n" + block)
    assert any("sets SHELL above the block" in note for note in user.notes(load()))
    assert any("not as [worker].user nobody" in note for note in user.notes(load()))


def test_a_users_crontab_is_not_made_in_an_image(tmp_path: Path) -> None:
    """The spool belongs to cron; the error names the way that works."""
    with pytest.raises(InstallError, match="Use --system there"):
        CrontabTarget(Site("tester", tmp_path))


def test_the_status_is_read_from_what_is_installed(
    user: CrontabTarget, folder: CronTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry once, with its next run, and its last one if the journal or its trace tells."""
    monkeypatch.setattr(cron, "last_runs", lambda commands: {})
    for target in (user, folder):
        apply(target, load())
        entries = {entry.label: entry for entry in status(target)}
        assert list(entries) == ["worker", "nightly-report", "prune", "health"]
        report = entries["nightly-report"]
        assert (report.schedule, report.last_run) == ("0 2 * * *", None)
        assert report.next_run is not None
        assert (report.next_run.hour, report.next_run.minute) == (2, 0)
        assert report.next_run > datetime.now().astimezone()


def status(target: Target, config: Config | None = None) -> list[EntryStatus]:
    """The status of what the manifest says is installed."""
    manifest = load_manifest(target.site, "myapp", target.kind)
    assert manifest is not None
    return target.status(manifest.entries, config)


@pytest.mark.parametrize("kind", ["cron", "cron-user"])
def test_the_packaged_library_has_labels_too(
    kind: str,
    folder: CronTarget,
    user: CrontabTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Entries that run the private folder of a system package are named as all others are."""
    monkeypatch.setattr(cron, "last_runs", lambda commands: {})
    (tmp_path / "private").mkdir()
    (tmp_path / "private/__main__.py").touch()
    monkeypatch.setattr(commands, "_HOME", tmp_path / "private")
    target: Target = folder if kind == "cron" else user
    apply(target, load())
    manifest = load_manifest(target.site, "myapp", target.kind)
    assert manifest is not None
    assert all(f"python -P {tmp_path}/private " in entry.known_as for entry in manifest.entries)
    labels = [entry.label for entry in status(target)]
    assert labels == ["worker", "nightly-report", "prune", "health"]


def test_the_last_run_is_the_latest_that_is_known(
    folder: CronTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims file's time is the worker's last run; a later line of the journal wins."""
    claims = tmp_path / "queue.claims"
    claims.touch()
    os.utime(claims, (1_000_000_000, 1_000_000_000))
    config = load(CONFIG.replace("/var/lib/myapp", str(tmp_path)))
    apply(folder, config)
    logged: dict[bytes, datetime] = {}
    monkeypatch.setattr(cron, "last_runs", lambda commands: dict.fromkeys(commands, later))
    later = datetime.fromtimestamp(2_000_000_000).astimezone()
    worker, *others = status(folder, config)
    assert {entry.last_run for entry in (worker, *others)} == {later}
    monkeypatch.setattr(cron, "last_runs", lambda commands: logged)
    worker, report, *_ = status(folder, config)
    assert worker.last_run == datetime.fromtimestamp(1_000_000_000).astimezone()
    assert (report.last_run, report.note) == (None, "no record of a run")


def test_the_journal_tells_when_cron_ran_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest line of exactly this command counts, and noise between is skipped."""
    records: list[tuple[int, object]] = [
        (2_000_000_000, "(zoe) CMD (echo 100% caf\\303\\251)"),
        (1_900_000_000, [1, 2]),
        (1_800_000_000, "(zoe) CMD (true)"),
        (1_700_000_000, "(zoe) CMD (true)"),
        (1_600_000_000, "(zoe) CMD (true and more)"),
    ]
    lines = ["no json", '{"MESSAGE": "(zoe) CMD (true)"}']
    for second, message in records:
        record = {"__REALTIME_TIMESTAMP": f"{second}000000", "MESSAGE": message}
        lines.append(json.dumps(record))
    program = tmp_path / "journalctl"
    (tmp_path / "lines").write_text("\n".join(lines))
    program.write_text(f'#!/bin/sh\ncat "{tmp_path}/lines"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    echo = "echo 100\\% café".encode()
    found = cron.last_runs([b"true", echo, b"false"])
    assert {command: int(when.timestamp()) for command, when in found.items()} == {
        b"true": 1_800_000_000,
        echo: 2_000_000_000,
    }


def test_without_a_journal_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No journalctl, or one that hangs: no last run, no error."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert cron.last_runs([b"true"]) == {}

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("journalctl", 20)

    monkeypatch.setattr(subprocess, "run", hang)
    assert cron.last_runs([b"true"]) == {}
