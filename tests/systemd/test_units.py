"""The units of a config: what they are called, what they start, when, and what they may do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specimens import PROFILES, TOML, load, with_worker
from unit_reader import read_specifiers, read_words, texts

from dbbasic_queue.config.sections import Config
from dbbasic_queue.install import entries as commands
from dbbasic_queue.systemd.syntax import parse as settings_of
from dbbasic_queue.systemd.units import unit_pattern, units, wake_file, write_units

names = st.from_regex("[a-z][a-z0-9-]{0,31}", fullmatch=True)


@pytest.fixture
def config() -> Config:
    """A config with everything in it."""
    return load()


def values(text: str, key: str) -> list[str]:
    """All values of one key of a unit."""
    return [setting.value for setting in settings_of(text) if setting.key == key]


# --- Names ---------------------------------------------------------------------------------------


def test_each_thing_has_its_units(config: Config) -> None:
    """All that the clock starts has a service and a timer of its own."""
    assert set(units(config)) == {
        "dbq-app-worker.service",
        "dbq-app-worker.timer",
        "dbq-app-worker.path",
        "dbq-app-rewake.service",
        "dbq-app-recurring@.service",
        "dbq-app-recurring@nightly.timer",
        "dbq-app-recurring@hourly.timer",
        "dbq-app-prune.service",
        "dbq-app-prune.timer",
        "dbq-app-health.service",
        "dbq-app-health.timer",
        "dbq-app-report.service",
        "dbq-app-report.timer",
        "dbq-app-failed@.service",
    }


def test_what_the_config_leaves_out_has_no_units(config: Config) -> None:
    """Without the other sections there is only the worker and what tells that it failed."""
    found = units(replace(config, recurring=(), prune=None, health=None, report=None))
    assert {re.sub(r"\W\w+$", "", name) for name in found} == {
        "dbq-app-worker",
        "dbq-app-rewake",
        "dbq-app-failed@",
    }


@given(names, names, names, names)
def test_no_two_configs_share_a_unit(one: str, job: str, two: str, other: str) -> None:
    """Whatever two configs and their jobs are called, each unit bears the name of one only."""
    if one == two:
        return
    for name, mine, foreign in [(one, job, two), (two, other, one)]:
        config = replace(load(), name=name)
        jobs = (replace(config.recurring[0], name=mine),)
        for unit in units(replace(config, recurring=jobs)):
            assert unit_pattern(name).fullmatch(unit)
            assert not unit_pattern(foreign).fullmatch(unit)


def test_a_job_called_worker_is_not_the_worker(config: Config) -> None:
    """A recurring job may bear a unit's name without taking its place."""
    job = replace(config.recurring[0], name="worker")
    found = units(replace(config, recurring=(job,)))
    assert "dbq-app-recurring@worker.timer" in found
    assert values(found["dbq-app-worker.timer"], "OnCalendar") == ["*-*-* *:*:00 UTC"]


# --- What is started, and when -------------------------------------------------------------------


def test_services_run_the_commands(config: Config) -> None:
    """Each service's ExecStart= is the command that cron's entry of the same thing runs."""
    found = units(config)
    for role, verb, arguments in [
        ("worker", commands.WORK, []),
        ("prune", commands.PRUNE, []),
        ("health", commands.HEALTH, []),
        ("report", commands.REPORT, []),
    ]:
        (command,) = values(found[f"dbq-app-{role}.service"], "ExecStart")
        assert read_words(command) == commands.argv(config, verb, *arguments)
    (command,) = values(found["dbq-app-recurring@.service"], "ExecStart")
    assert command.split() == commands.argv(config, commands.ENQUEUE_RECURRING, "%i")


def test_only_timers_and_the_path_can_be_enabled(config: Config) -> None:
    """No service has an [Install] section, so nothing starts one but its timer or path."""
    for name, text in units(config).items():
        assert ("\n[Install]\n" in text) == name.endswith((".timer", ".path"))


def test_timers_have_the_nights_on_which_the_clock_changes(config: Config) -> None:
    """On a machine whose clock skips the time of a job, its timer names these nights by date."""
    found = write_units(config, zone=ZoneInfo("Europe/Berlin")).units
    nightly, hourly = (found[f"dbq-app-recurring@{name}.timer"] for name in ("nightly", "hourly"))
    assert values(nightly, "OnCalendar")[:3] == [
        *("*-*-* 02:00:00", "2026-03-29 01:00:00 UTC", "2027-03-28 01:00:00 UTC")
    ]
    assert values(hourly, "OnCalendar") == ["*-*-* *:00:00 UTC"]


def test_timers_follow_the_schedules(config: Config) -> None:
    """OnCalendar= is the schedule's, and only the jobs that ask for it have jitter or catch up."""
    found = units(config)
    nightly, hourly = (found[f"dbq-app-recurring@{name}.timer"] for name in ("nightly", "hourly"))
    assert values(nightly, "OnCalendar") == config.recurring[0].schedule.on_calendar()
    assert values(nightly, "Persistent") == ["yes"]
    assert values(nightly, "RandomizedDelaySec") == ["300"]
    assert values(nightly, "FixedRandomDelay") == ["yes"]
    assert values(nightly, "Unit") == ["dbq-app-recurring@nightly.service"]
    assert values(hourly, "Persistent") == values(hourly, "RandomizedDelaySec") == []
    assert values(found["dbq-app-prune.timer"], "Persistent") == ["yes"]
    assert values(found["dbq-app-worker.timer"], "Persistent") == []
    assert {tuple(values(found[n], "AccuracySec")) for n in found if n.endswith("timer")} == {
        ("1s",)
    }


def test_the_path_looks_at_the_wake_file_never_at_the_queue(config: Config) -> None:
    """The worker's own writes must not start it again."""
    assert wake_file(config) == Path("/var/lib/app/queue.wake")
    path = units(config)["dbq-app-worker.path"]
    assert values(path, "PathChanged") == ["/var/lib/app/queue.wake"]
    assert not any(key in path for key in ("PathModified", "PathExists", "DirectoryNotEmpty"))
    assert "queue.tsv" not in path


MARK = "%t/dbq-app-worker.started"


@pytest.mark.parametrize("for_user", [False, True])
def test_a_worker_is_woken_again_by_what_came_after_its_start(
    for_user: bool, config: Config
) -> None:
    """The mark of a start is out of the reach of strangers, and without one no worker starts.

    So the touch of the rewake unit always lies before the next mark, and wakes one worker only.
    """
    found = units(config, for_user=for_user)
    (marks,) = values(found["dbq-app-worker.service"], "ExecStartPre")
    assert marks == ("" if for_user else "+") + f"/usr/bin/touch {MARK}"
    (again,) = values(found["dbq-app-rewake.service"], "ExecStart")
    wake = "/var/lib/app/queue.wake"
    assert read_words(again.replace(MARK, "MARK"))[:6] == [
        *("-/usr/bin/find", wake, "-type", "f", "-newer", "MARK")
    ]
    assert values(found["dbq-app-worker.service"], "OnSuccess") == ["dbq-app-rewake.service"]


def test_the_journal_of_an_idle_queue_is_quiet(config: Config) -> None:
    """systemd tells no start and end; what the processes print is lifted above that limit."""
    for name, text in units(config).items():
        if name.endswith(".service") and "failed" not in name and "rewake" not in name:
            assert values(text, "LogLevelMax") == values(text, "SyslogLevel") == ["notice"]
            assert values(text, "SyslogLevelPrefix") == ["no"]


def test_what_the_config_allows_and_limits(config: Config) -> None:
    """Writable folders, umask, nice, memory and processor are the worker's alone."""
    keys = ("UMask", "Nice", "MemoryMax", "CPUQuota")
    usual = units(config)
    worker = usual["dbq-app-worker.service"]
    assert [values(worker, key) for key in keys] == [["0027"], [], [], []]
    found = units(
        with_worker(
            config,
            writable=(Path("/srv/app/uploads"), Path("/srv/a b")),
            umask=0o002,
            nice=0,
            memory_max=2 << 30,
            cpu_quota=150,
        )
    )
    worker = found.pop("dbq-app-worker.service")
    assert [values(worker, key) for key in keys] == [["0002"], ["0"], [str(2 << 30)], ["150%"]]
    (writable,) = values(worker, "ReadWritePaths")
    assert read_words(writable)[2:] == ["/srv/app/uploads", "/srv/a b"]
    assert found == {name: text for name, text in usual.items() if name in found}


@pytest.mark.parametrize("queue", ["file", "server"])
@pytest.mark.parametrize(
    ("profile", "nice", "limit"),
    [
        ("compat", None, ["+0"]),
        ("compat", 7, ["+7"]),
        ("compat", -5, ["-5"]),
        ("network", 7, []),
        ("isolated", None, []),
    ],
)
def test_a_worker_may_undo_the_niceness_of_a_job(
    profile: str, nice: int | None, limit: list[str], queue: str
) -> None:
    """Where jobs can call os.nice, the worker can go back to where it began, and no further.

    The rule: the niceness may be lowered to 20 - RLIMIT_NICE (setrlimit(2)), which LimitNICE= with
    a sign gives as a niceness (systemd.exec(5)). A user's own manager cannot give the right to it.
    """
    file = 'file = "/var/lib/app/queue.tsv"'
    text = TOML if queue == "file" else TOML.replace(file, 'url = "redis://10.0.0.5/0"')
    config = with_worker(load(text), hardening=profile, nice=nice)
    name = "dbq-app-worker.service" if queue == "file" else "dbq-app-worker@.service"
    assert values(units(config)[name], "LimitNICE") == limit
    assert values(units(config, for_user=True)[name], "LimitNICE") == []


def test_a_start_of_the_worker_is_never_refused_for_being_one_of_many(config: Config) -> None:
    """Every wake starts a run, so the limit of starts is off where it would stop the queue."""
    found = units(config)
    for role in ("worker", "rewake"):
        assert values(found[f"dbq-app-{role}.service"], "StartLimitIntervalSec") == ["0"]


def test_a_stop_waits_for_the_running_job(config: Config) -> None:
    """TimeoutStopSec= outlasts a job's timeout; without one it has no end."""
    worker = units(config)["dbq-app-worker.service"]
    assert values(worker, "TimeoutStopSec") == ["630"]
    assert values(worker, "KillMode") == ["mixed"]
    endless = units(with_worker(config, timeout=None))["dbq-app-worker.service"]
    assert values(endless, "TimeoutStopSec") == ["infinity"]


def test_failures_are_reported(config: Config) -> None:
    """Every service but the two helpers names the report as its OnFailure=."""
    for name, text in units(config).items():
        if name.endswith(".service"):
            own = "failed" in name or "rewake" in name
            assert values(text, "OnFailure") == ([] if own else ["dbq-app-failed@%N.service"])


# --- As which user, where, with what --------------------------------------------------------------


def test_system_units_need_a_user(config: Config) -> None:
    """Without `[worker].user` there are no system units, since they would run as root."""
    nobody = with_worker(config, user=None)
    with pytest.raises(ValueError, match=r"\[worker\].user is missing"):
        units(nobody)
    assert units(nobody, for_user=True)


def test_services_run_as_the_user_in_the_directory(config: Config) -> None:
    """User, folder, environment and environment file are the same for all services."""
    for name, text in units(config).items():
        if name.endswith(".service") and "failed" not in name:
            assert values(text, "User") == ["zoe"]
            assert values(text, "WorkingDirectory") == ["/srv/app"]
            assert values(text, "EnvironmentFile") == ["/etc/app/env"]
            environment = dict(e.split("=", 1) for e in values(text, "Environment"))
            assert environment == config.environment_variables


def test_user_units_leave_out_what_a_user_manager_cannot_do(config: Config) -> None:
    """No User=, no sandbox of the file system, no capabilities; system calls stay restricted."""
    for name, text in units(config, for_user=True).items():
        keys = {setting.key for setting in settings_of(text)}
        left_out = {"User", "DynamicUser", "SupplementaryGroups", "CapabilityBoundingSet"}
        assert not keys & left_out
        assert not {key for key in keys if key.startswith(("Protect", "Private", "ReadWrite"))}
        if name.endswith(".service"):
            assert keys >= {"NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies"}


@pytest.mark.parametrize("profile", PROFILES)
def test_only_the_worker_gets_the_network_that_handlers_need(profile: str, config: Config) -> None:
    """Our own commands run isolated, but for compat, which says that something is elsewhere."""
    found = units(with_worker(config, hardening=profile))
    ours = "compat" if profile == "compat" else "isolated"
    for role in ("rewake", "recurring@", "prune", "health", "report"):
        assert f'(hardening = "{ours}")' in found[f"dbq-app-{role}.service"]
    assert f'(hardening = "{profile}")' in found["dbq-app-worker.service"]
    network = values(found["dbq-app-worker.service"], "PrivateNetwork")
    assert network == (["yes"] if profile == "isolated" else [])


def test_a_ping_needs_the_network() -> None:
    """A health check that pings an URL is not cut off from the network."""
    text = TOML.replace("[health]\n", '[health]\nping_url = "https://hc.example/x"\n')
    health = units(load(text))["dbq-app-health.service"]
    assert values(health, "PrivateNetwork") == []
    assert "AF_INET" in values(health, "RestrictAddressFamilies")[0]


@pytest.mark.parametrize("profile", PROFILES)
def test_only_the_folders_of_queue_and_log_are_writable(profile: str, config: Config) -> None:
    """ReadWritePaths= names the queue's and the log's folders, and where others are written to."""
    found = units(with_worker(config, hardening=profile))
    assert values(found["dbq-app-worker.service"], "ReadWritePaths") == [
        "/var/lib/app /var/log/app"
    ]
    health = values(found["dbq-app-health.service"], "ReadWritePaths")
    assert health == ["/var/lib/app /var/log/app /var/lib/metrics"]
    page = values(found["dbq-app-report.service"], "ReadWritePaths")
    assert page == ["/var/lib/app /var/log/app /var/lib/metrics"]


def test_owner_and_group_of_the_queue_can_be_kept(config: Config) -> None:
    """A rewrite of the file keeps owner and group, so chown is allowed and no user is hidden."""
    for name, text in units(config).items():
        if name.endswith(".service"):
            assert values(text, "SystemCallFilter")[-1] == "@chown"
            assert not values(text, "PrivateUsers")
            assert not values(text, "RemoveIPC")


# --- What a person reads -------------------------------------------------------------------------


@pytest.mark.parametrize("for_user", [False, True])
def test_every_unit_says_where_it_came_from(for_user: bool, config: Config) -> None:
    """Each has a heading with the command that changes and the one that removes it."""
    whose = "--user" if for_user else "--system"
    for name, text in units(config, for_user=for_user).items():
        assert f"dbq-install-systemd --config /etc/app/dbq.toml {whose}\n" in text
        assert f"dbq-install-systemd --remove --name app {whose}\n" in text
        assert f"systemctl {'--user ' if for_user else ''}edit {name}\n" in text
        assert len(values(text, "Description")) == 1


def test_the_command_in_the_heading_can_be_copied(config: Config) -> None:
    """In a comment nothing is escaped for systemd, only for the shell of who copies it."""
    for text in units(replace(config, path=Path("/etc/50% off/dbq.toml"))).values():
        assert "dbq-install-systemd --config '/etc/50% off/dbq.toml' --system\n" in text


@pytest.mark.parametrize("for_user", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_the_text_is_tidy(profile: str, for_user: bool, config: Config) -> None:
    """No trailing blanks, no two blank lines in a row, no leftover of a template."""
    for text in units(with_worker(config, hardening=profile), for_user=for_user).values():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert not re.search(r"[ \t]\n|\n\n\n|None|\{[{%#]", text)
        assert all(len(each) <= 100 for each in text.split("\n") if each.startswith("#"))


# --- Hostile values ------------------------------------------------------------------------------


@given(texts, texts, texts)
def test_hostile_values_arrive_or_are_refused(value: str, folder: str, config_name: str) -> None:
    """Variables, folders and the config's path are read back by systemd's rules as they are."""
    # A slash would be another folder; what ends in a blank or backslash is refused, tested above.
    folder, config_name = (f"/x/{each.replace('/', '')}y" for each in (folder, config_name))
    config = replace(load(), path=Path(config_name))
    config = with_worker(config, environment={"V": value}, directory=Path(folder))
    worker = units(config)["dbq-app-worker.service"]
    (command,) = values(worker, "ExecStart")
    assert [w.removeprefix(":") for w in read_words(command)] == commands.argv(config, "work")
    assert read_specifiers(values(worker, "WorkingDirectory")[0]) == folder
    environment = [read_words(each) for each in values(worker, "Environment")]
    assert ["V=" + value] in environment


@pytest.mark.parametrize("path", ["/etc/a\nb", "/etc/\udcff", "/etc/a\tb"])
def test_a_config_path_that_no_unit_holds_is_refused(path: str, config: Config) -> None:
    """A newline or a byte that is not UTF-8 in the config's own path raises."""
    with pytest.raises(ValueError, match=r"U\+"):
        units(replace(config, path=Path(path)))
