"""The family's released packages with this library: of commands, mail, site, menu and accounts.

They are in `.cache/family`, and those of accounts in a folder below it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import dbbasic_queue
from dbbasic_queue import Queue
from dbbasic_queue.cli import family

FAMILY = Path(__file__).parents[2] / ".cache" / "family"
JOBS = """
def greet(payload):
    return "Hello " + payload["name"]

HANDLERS = {"greet": greet}
"""


def dbbasic(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the family's `dbbasic` in a folder."""
    if not (FAMILY / "dbbasic_cli").is_dir():
        raise AssertionError(f"{FAMILY} holds no dbbasic-cli: run `make .cache/family/.ready` once")
    return subprocess.run(
        [sys.executable, "-c", "from dbbasic_cli.cli import main; main()", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(FAMILY), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_family_lists_our_commands(tmp_path: Path) -> None:
    """`dbbasic help` names each of them, with a line of what it does."""
    done = dbbasic(tmp_path, "help")
    assert done.returncode == 0, done.stderr
    for name, command in family.COMMANDS.items():
        assert f"  {name:20} - {command.__doc__}\n" in done.stdout


def test_a_job_goes_its_way_by_the_family_s_commands(tmp_path: Path) -> None:
    """`queue:worker` works off what is due and ends; the others show, and exit as ours do."""
    (tmp_path / "jobs.py").write_text(JOBS)
    added = dbbasic(tmp_path, "queue:enqueue", "greet", '{"name": "Zoë"}', "--id", "greet-1")
    assert (added.returncode, added.stdout) == (0, "greet-1\n")
    again = dbbasic(tmp_path, "queue:enqueue", "greet", '{"name": "Ada"}', "--id", "greet-1")
    assert again.returncode == 1
    worked = dbbasic(tmp_path, "queue:worker", "jobs:HANDLERS")
    assert worked.returncode == 0, worked.stderr
    assert "Hello" in dbbasic(tmp_path, "queue:show", "greet-1").stdout
    assert "completed" in dbbasic(tmp_path, "queue:list").stdout
    assert "completed" in dbbasic(tmp_path, "queue:stats").stdout
    assert dbbasic(tmp_path, "queue:cancel", "greet-1").returncode == 1
    assert dbbasic(tmp_path, "queue:fsck").returncode == 0
    unknown = dbbasic(tmp_path, "queue:list", "--stats")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr


@pytest.mark.parametrize("name", sorted(family.COMMANDS))
def test_each_command_has_help(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`dbbasic queue:X --help` is the help of `dbq X`, and ends well."""
    with pytest.raises(SystemExit) as ended:
        family.COMMANDS[name](["--help"])
    assert not ended.value.code
    word = family.WORDS[name.removeprefix("queue:")]
    assert f"usage: dbq {word}" in capsys.readouterr().out


def test_the_commands_are_made_when_asked_for(tmp_path: Path) -> None:
    """A worker that starts each minute does not make them."""
    program = (
        "import sys, dbbasic_queue.cli.main;"
        " assert 'dbbasic_queue.cli.family' not in sys.modules;"
        " import dbbasic_queue.cli as c; assert 'queue:worker' in c.COMMANDS"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_the_mail_of_the_family_goes_through_this_queue(tmp_path: Path) -> None:
    """`email:send` puts a job here, and `email:queue` prints how many there are in which state."""
    sent = dbbasic(tmp_path, "email:send", "zoe@example.com", "Hello", "Text\twith a tab\n")
    assert "queued" in sent.stdout
    (job,) = Queue(tmp_path / "data" / "queue.tsv").list_jobs()
    assert (job["type"], job["payload"]["to"]) == ("send_email", "zoe@example.com")
    told = dbbasic(tmp_path, "email:queue").stdout
    assert "Total:     1\nPending:   1\nCompleted: 0\nFailed:    0\n" in told


WEB = """
import json, sys
from urllib.parse import urlencode
from dbbasic_admin.admin import discover_modules
from dbbasic_web.router import route

PATH = "/admin/queue"
KIND = (b"content-type", b"application/x-www-form-urlencoded")

def ask(method, body=b"", client="127.0.0.1", *headers):
    scope = {"method": method, "path": PATH, "query_string": b"", "client": (client, 5)}
    status, answered, parts = route(
        {**scope, "headers": [(b"host", b"localhost:8000"), *headers]}, body
    )
    return status, dict(answered), b"".join(parts).decode()

status, headers, text = ask("GET")
cookie = headers["Set-Cookie"].partition(";")[0]
form = {"token": cookie.partition("=")[2], "act": "cancel", "id": "greet-1"}
sent = (KIND, (b"cookie", cookie.encode()))
foreign, own = ((b"origin", each) for each in (b"http://evil.example", b"http://localhost:8000"))
print(json.dumps({
    "menu": [each["config"] for each in discover_modules() if each["name"] == "dbbasic_queue"],
    "shown": [status, f'action="{PATH}"' in text],
    "stranger": ask("GET", b"", "10.0.0.5")[0],
    "forged": ask("POST", urlencode(form).encode(), "127.0.0.1", *sent, foreign)[0],
    "clicked": ask("POST", urlencode(form).encode(), "127.0.0.1", *sent, own)[0],
}))
"""


def test_the_family_s_site_has_the_page(tmp_path: Path) -> None:
    """dbbasic-admin has it in its menu, and dbbasic-web's router finds it there."""
    if not (FAMILY / "dbbasic_web").is_dir():
        raise AssertionError(f"{FAMILY} holds no dbbasic-web: run `make .cache/family/.ready` once")
    queue = Queue(tmp_path / "data" / "queue.tsv")
    queue.enqueue("greet", {}, job_id="greet-1")
    # pkgutil, by which the menu is made, sees folders only, and no editable installation.
    path = f"{FAMILY}:{Path(dbbasic_queue.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", WEB],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ((entry,),) = found.pop("menu")
    assert (entry["label"], entry["href"]) == ("Queue", "/admin/queue")
    assert found == {"shown": [200, True], "stranger": 403, "forged": 403, "clicked": 303}
    assert queue.get_job("greet-1")["status"] == "cancelled"


ACCOUNTS = """
import json, os, sys
from urllib.parse import urlencode
from dbbasic_accounts import Accounts
from dbbasic_sessions import create_session
from dbbasic_web.router import route

PATH = "/admin/queue"
zoe = Accounts().register("zoe@example.org", "s3cret-s3cret").uid

def ask(method, cookie="", body=b"", origin="http://shop.example"):
    scope = {"method": method, "path": PATH, "query_string": b"", "client": ("10.0.0.5", 5)}
    status, answered, parts = route({**scope, "headers": [
        (b"host", b"shop.example"),
        (b"origin", origin.encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"cookie", cookie.encode()),
    ]}, body)
    return status, dict(answered), b"".join(parts).decode()

def click(session, page, **more):
    fields = {"token": page.partition("=")[2], "act": "cancel", "id": "greet-1"}
    return ask("POST", f"{session}; {page}", urlencode(fields).encode(), **more)[0]

session = f"session={create_session(zoe)}"
status, headers, text = ask("GET", session)
page = headers.get("Set-Cookie", "").partition(";")[0]
unknown = f"session={create_session(zoe + 1)}"
stranger = ask("GET")
print(json.dumps({
    "stranger": [stranger[0], stranger[1].get("location")],
    "unknown user": ask("GET", unknown)[0],
    "forged": ask("GET", session + "0")[0],
    "user": [status, f'action="{PATH}"' in text],
    "clicked by a stranger": click("a=b", page),
    "clicked elsewhere": click(session, page, origin="http://evil.example"),
    "clicked": click(session, page),
}))
"""


@pytest.mark.parametrize("key", ["s3cret-s3cret-s3cret", ""], ids=["key", "published"])
def test_the_family_s_users_have_the_page(tmp_path: Path, key: str) -> None:
    """Who is logged in by dbbasic-accounts; not while anyone can make a session."""
    accounts = FAMILY / "accounts"
    if not (accounts / "dbbasic_accounts").is_dir():
        raise AssertionError(f"{accounts} is empty: run `make .cache/family/.ready` once")
    if not any((accounts / f"_cffi_backend{end}").exists() for end in EXTENSION_SUFFIXES):
        pytest.skip("dbbasic-accounts is here with a library of another Python")
    queue = Queue(tmp_path / "data" / "queue.tsv")
    queue.enqueue("greet", {}, job_id="greet-1")
    path = f"{accounts}:{FAMILY}:{Path(dbbasic_queue.__file__).parents[1]}"
    environment = {name: text for name, text in os.environ.items() if name != "SECRET_KEY"}
    done = subprocess.run(
        [sys.executable, "-c", ACCOUNTS],
        cwd=tmp_path,
        env={
            **environment,
            **({"SECRET_KEY": key} if key else {}),
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "stranger": [302, "/login"],
        "unknown user": 302,
        "forged": 302,
        "user": [200, True] if key else [403, False],
        "clicked by a stranger": 302,
        "clicked elsewhere": 403,
        "clicked": 303 if key else 403,
    }
    assert queue.get_job("greet-1")["status"] == ("cancelled" if key else "pending")
