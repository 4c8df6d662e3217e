"""`[commands]`: an administrator's jobs, by the ordinary worker and without a line of Python."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

CONFIG = """
name = "shop"
[queue]
file = "data/queue.tsv"
[commands]
backup = {{ run = ["tar", "--create", "--file={{to}}", "--", "{{path}}"], timeout = "1h" }}
{more}
"""
# An entry in /etc/cron.d needs one, and the check asks for it where root and a cron are.
USER = f'[worker]\nuser = "{getpass.getuser()}"\n'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a config that has commands and no handlers."""
    configure(tmp_path)
    (tmp_path / "-etc").mkdir()
    return tmp_path


def configure(folder: Path, more: str = "") -> None:
    (folder / "dbq.toml").write_text(CONFIG.format(more=more))


def test_a_config_with_commands_only(shop: Path) -> None:
    """Enqueue, check and work do with it; the program runs in the config's folder."""
    configure(shop, USER)
    checked = dbq("check", cwd=shop)
    assert checked.returncode == 0, checked.stderr
    assert "handlers for: backup" in checked.stdout
    added = dbq("enqueue", "backup", '{"to": "a b.tar", "path": "-etc"}', cwd=shop)
    assert (added.returncode, added.stderr) == (0, "")
    done = dbq("work", "--config", str(shop / "dbq.toml"), cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    job = queue_of(shop).get_job(added.stdout.strip())
    assert job["result"] == {"exit": 0, "output": ""}
    assert (shop / "a b.tar").exists()


def test_commands_beside_handlers(shop: Path) -> None:
    """Both run in one worker; a type that is both is refused by worker and check."""
    (shop / "jobs.py").write_text("HANDLERS = {'ok': lambda payload: payload}\n")
    configure(shop, 'say.run = ["echo", "--", "{what}"]\n[worker]\nhandlers = "jobs:HANDLERS"')
    queue = queue_of(shop)
    queue.enqueue("ok", {"a": 1}, job_id="o")
    queue.enqueue("say", {"what": "x"}, job_id="s")
    queue.enqueue("other", {}, job_id="n")
    dbq("work", "--max-attempts", "1", cwd=shop)
    assert queue.get_job("o")["result"] == {"a": 1}
    assert queue.get_job("s")["result"]["output"] == "-- x\n"
    assert "there are handlers for: backup, ok, say" in queue.get_job("n")["error"]
    configure(shop, 'ok.run = ["true"]\n[worker]\nhandlers = "jobs:HANDLERS"')
    worked, checked = dbq("work", cwd=shop), dbq("check", cwd=shop)
    assert "ok is both in jobs:HANDLERS and in [commands]" in worked.stderr
    assert "[commands].ok: is the type of a handler, too" in checked.stderr
    assert (worked.returncode, checked.returncode) == (2, 2)


def test_an_unknown_type_is_told_when_it_is_enqueued(shop: Path) -> None:
    """With the commands that there are."""
    added = dbq("enqueue", "bakcup", "{}", cwd=shop)
    assert "there are handlers for: backup; did you mean backup?" in added.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('x.run = ["no-such-program"]', "[commands].x.run: {me} finds no program no-such-program"),
        ('x.run = ["./dbq.toml"]', "[commands].x.run: {me} cannot run {shop}/dbq.toml: it is not"),
        ('x = {run = ["true"], directory = "gone"}', "[commands].x.directory: {shop}/gone is not"),
        ('x.run = ["sh", "-c", "rm {path}"]', "[commands].x.run: 'rm {path}' is a script of sh"),
        ('x.run = ["rm", "{a b}"]', "[commands].x.run: '{a b}': write {{{{ and }}}}"),
        ('x.run = "rm {path}"', "[commands].x.run: must be an array of words"),
        ("x.run = []", "[commands].x.run: the first word must be the program"),
        ('x = {run = ["rm"], options = ["b"]}', "[commands].x.options: there is no placeholder"),
        ('x = {run = ["rm"], success = [256]}', "[commands].x.success: must hold whole numbers"),
        ('"a b".run = ["rm"]', "[commands].'a b': job type 'a b': must be a string"),
        ('x = {timeout = "1h"}', "[commands].x.run: is missing"),
        ('x = {run = ["rm"], user = "me"}', "[commands].x.user: is an unknown key"),
    ],
    ids=[
        *("program", "file", "directory", "shell", "brace", "string", "empty"),
        *("options", "success", "type", "run", "unknown"),
    ],
)
def test_what_check_finds(shop: Path, more: str, said: str) -> None:
    """Each fault by its key; nothing is started for it."""
    configure(shop, more)
    checked = dbq("check", cwd=shop)
    assert checked.returncode == 2
    for name, value in (("{me}", getpass.getuser()), ("{shop}", str(shop))):
        said = said.replace(name, value)
    assert said.replace("{{{{ and }}}}", "{{ and }}") in checked.stderr


def test_neither_handlers_nor_commands(tmp_path: Path) -> None:
    """A config that runs nothing is refused, and says what may be given."""
    (tmp_path / "dbq.toml").write_text('name = "a"\n[queue]\nfile = "q.tsv"\n[worker]\n')
    checked = dbq("check", cwd=tmp_path)
    assert "[worker].handlers: is missing, and there are no [commands] either" in checked.stderr


def test_check_tells_the_types_as_json(shop: Path) -> None:
    """Commands are types like those of handlers, and recurring jobs may be of them."""
    configure(shop, USER + '[[recurring]]\nname = "nightly"\ntype = "backup"\nschedule = "@daily"')
    report = json.loads(dbq("check", "--json", cwd=shop).stdout)
    assert (report["ok"], report["types"]) == (True, ["backup"])
