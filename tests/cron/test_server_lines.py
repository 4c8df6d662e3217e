"""The entries of a queue on a server, under cron."""

from __future__ import annotations

from specimens import TOML, load, with_worker

from dbbasic_queue.config.sections import Config
from dbbasic_queue.cron.lines import lines


def config() -> Config:
    return load(TOML.replace('file = "/var/lib/app/queue.tsv"', 'url = "redis://:secret@h/0"'))


def command(config: Config, label: str) -> str:
    return next(line.command for line in lines(config, {}) if line.label == label)


def test_a_worker_waits_until_the_next_one_starts() -> None:
    """It is woken by the server all the while; a config that says how long is followed."""
    assert " --linger 55s " in command(config(), "worker")
    assert " --linger " not in command(with_worker(config(), linger=20), "worker")
    assert " --linger " not in command(load(), "worker")


def test_a_worker_that_is_off_has_no_entry() -> None:
    """With `enabled = false` in [worker] all other entries stay as they are."""
    for each in (load(), config()):
        others = [line for line in lines(each, {}) if line.label != "worker"]
        assert lines(with_worker(each, enabled=False), {}) == others


def test_one_machine_prunes() -> None:
    """All machines have the entry, and the server gives each time to one of them."""
    assert " prune --scheduled " in command(config(), "prune")
    assert "--scheduled" not in command(load(), "prune")


def test_no_secret_stands_in_an_entry() -> None:
    """Entries name the config, never the address."""
    assert not any("secret" in line.command for line in lines(config(), {}))
