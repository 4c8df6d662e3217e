"""What root's commands do: they become the worker's user, and follow no config of a stranger's."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import pwd
import select
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import Terminal, queue_of
from dbbasic import tsv
from parties import needs_root, open_place

import dbbasic_queue

pytestmark = needs_root

PYTHON = "/usr/bin/python3"
WORKER, STRANGER = "daemon", "nobody"
JOBS = """
import json, os, sys
def who(payload):
    return [os.getuid(), os.getgid(), sorted(os.getgroups()), sys.executable,
            os.environ["HOME"], os.environ.get("SECRET"), os.environ.get("FROM_FILE")]
def push(payload):
    import fcntl, termios
    pushed = []
    for fd in (0, 1, 2, "/dev/tty"):
        try:
            fd = os.open(fd, os.O_RDWR) if isinstance(fd, str) else fd
            for character in b"rm -rf /\\n":
                fcntl.ioctl(fd, termios.TIOCSTI, bytes([character]))
            pushed.append(os.ttyname(fd))
        except OSError:
            pass
    return [pushed, os.isatty(2), list(os.get_terminal_size(2))]
def sleep(payload):
    import time
    print("asleep", flush=True)
    time.sleep(60)
HANDLERS = {"who": who, "push": push, "sleep": sleep}
"""


def usable_python() -> bool:
    program = "import sys; sys.exit(sys.version_info < (3, 11))"
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", program]).returncode == 0


@pytest.fixture
def app() -> Iterator[Path]:
    """An application in a folder that all can enter, whose queue's folder is the worker's."""
    if not usable_python():
        pytest.skip(f"no {PYTHON} of 3.11 or later, which another user can run")
    with open_place() as place:
        library = place / "library"
        shutil.copytree(Path(dbbasic_queue.__file__).parent, library / "dbbasic_queue")
        shutil.copytree(Path(tsv.__file__).parent, library / "dbbasic")
        (place / "data").mkdir()
        shutil.chown(place / "data", WORKER, WORKER)
        (place / "jobs.py").write_text(JOBS)
        (place / "env").write_text("FROM_FILE=yes\n")
        write(place)
        yield place


def write(app: Path, worker: str = f'user = "{WORKER}"') -> Path:
    """Write the config."""
    config = app / "dbq.toml"
    config.write_text(
        '[queue]\nfile = "data/queue.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
        f'python = "{PYTHON}"\nenvironment_file = "{app}/env"\n{worker}\n'
        f'environment = {{ PYTHONPATH = "{app}/library", PYTHONDONTWRITEBYTECODE = "1" }}\n'
    )
    return config


def dbq(*args: str, app: Path, editor: str = "false") -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DBQ_")}
    return subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", *args],
        cwd=app,
        env={**clean, "SECRET": "of root", "VISUAL": editor},
        capture_output=True,
        text=True,
    )


def owners(app: Path) -> set[str]:
    return {pwd.getpwuid(path.stat().st_uid).pw_name for path in (app / "data").iterdir()}


def test_the_worker_of_root_is_the_configs(app: Path) -> None:
    """Its user with all groups, its interpreter, its variables; and no file of root's is left."""
    job = dbq("enqueue", "who", app=app).stdout.strip()
    done = dbq("work", "--limit", "5", app=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"dbq: working as {WORKER} ([worker].user), not as root\n")
    assert "completed who" in done.stderr
    user = pwd.getpwnam(WORKER)
    assert queue_of(app).get_job(job)["result"] == [
        user.pw_uid,
        user.pw_gid,
        sorted(os.getgrouplist(WORKER, user.pw_gid)),
        PYTHON,
        user.pw_dir,
        None,
        "yes",
    ]
    assert owners(app) == {WORKER}


def test_other_commands_become_the_worker_too(app: Path) -> None:
    """Whatever they write is the worker's; a terminal is told which user that is."""
    first = dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    assert (first.returncode, first.stdout, first.stderr) == (0, "a1\n", "")
    assert dbq("cancel", "a1", app=app).returncode == 0
    assert dbq("retry", "a1", app=app).returncode == 0
    assert dbq("fsck", "--repair", app=app).returncode == 0
    assert dbq("enqueue", "wo", app=app).stderr.endswith("push, sleep, who; did you mean who?\n")
    sed = "sed -i s/pending/cancelled/"
    assert dbq("edit", app=app, editor=sed).stdout == "2 jobs changed, 0 removed, 0 added\n"
    assert dbq("prune", "--older-than", "0", app=app).stdout == "removed 2 jobs\n"
    assert owners(app) == {WORKER}
    terminal = Terminal("list", cwd=app)
    assert f"dbq: as {WORKER} ([worker].user), not as root\n" in terminal.read()


def test_without_a_config_root_is_the_owner_of_the_folder(app: Path) -> None:
    """So no editor of root's opens a file where another user could put a link."""
    (app / "dbq.toml").unlink()
    first = dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    assert (first.returncode, first.stderr) == (0, "")
    program = app / "editor"
    program.write_text(f"#!/bin/sh\nid -un > {app}/data/editor\nsed -i s/pending/cancelled/ $1\n")
    program.chmod(0o755)
    assert dbq("edit", app=app, editor=str(program)).stdout == "1 job changed, 0 removed, 0 added\n"
    assert (app / "data" / "editor").read_text() == f"{WORKER}\n"
    assert owners(app) == {WORKER}
    terminal = Terminal("list", cwd=app)
    assert f"dbq: as {WORKER} (who owns its folder), not as root\n" in terminal.read()
    write(app, "")
    assert dbq("cancel", "a1", app=app).returncode == 1
    assert owners(app) == {WORKER}


def test_a_folder_of_a_user_without_a_name(app: Path) -> None:
    """As a container's volume may be: its number is enough."""
    (app / "dbq.toml").unlink()
    os.chown(app / "data", 61_999, 61_999)
    assert dbq("enqueue", "who", "{}", "--id", "a1", app=app).stdout == "a1\n"
    assert {path.stat().st_uid for path in (app / "data").iterdir()} == {61_999}


def on_roots_terminal(
    *args: str, app: Path, env: dict[str, str] | None = None, keys: tuple[tuple[str, str], ...] = ()
) -> tuple[str, str]:
    """Run `dbq` on a terminal that is its session's own: what it shows, and is typed afterwards.

    `keys` are typed one after the other, each when its text is shown.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 33, 111, 0, 0))
    settings = termios.tcgetattr(theirs)

    def take_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    clean = {k: v for k, v in os.environ.items() if not k.startswith("DBQ_") and k != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dbbasic_queue", *args],
        cwd=app,
        env={**clean, **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_the_terminal,
    )
    shown = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            shown += os.read(ours, 65536)
        if keys and keys[0][0].encode() in shown:
            os.write(ours, keys[0][1].encode())
            keys = keys[1:]
    assert process.returncode == 0, shown
    assert termios.tcgetattr(theirs) == settings
    os.set_blocking(theirs, False)
    try:
        typed = os.read(theirs, 65536).decode()
    except BlockingIOError:
        typed = ""
    os.close(ours)
    os.close(theirs)
    return shown.decode().replace("\r\n", "\n"), typed


def test_keys_reach_the_worker_of_root(app: Path) -> None:
    """Ctrl-C is answered and then breaks off, as without root; the terminal is as it was."""
    dbq("enqueue", "sleep", "{}", "--id", "s", app=app)
    answer = "finishing s; once more to break it off"
    keys = (("asleep", "\x03"), (answer, "\x03"))
    shown, typed = on_roots_terminal("work", app=app, keys=keys)
    assert answer in shown
    assert "put back sleep s" in shown
    assert typed == ""
    assert queue_of(app).get_job("s")["status"] == "pending"


def test_a_terminal_that_is_not_the_sessions_will_do(app: Path) -> None:
    """As a program has that started `dbq` on a terminal of its making."""
    dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    terminal = Terminal("work", cwd=app)
    assert "completed who a1" in terminal.read()
    assert terminal.process.wait() == 0


def test_output_may_go_elsewhere(app: Path) -> None:
    """A standard stream that is not a terminal stays what it is."""
    dbq("enqueue", "sleep", "{}", "--id", "a1", app=app)
    ours, theirs = pty.openpty()
    with (app / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dbbasic_queue", "work", "--timeout", "1s"],
            cwd=app, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        assert process.wait(60) == 0
    assert (app / "out").read_text() == "asleep\n"
    assert "JobTimeout" in os.read(ours, 65536).decode()
    os.close(ours)


def test_a_handler_cannot_type_into_roots_terminal(app: Path) -> None:
    """What it pushes into its terminal stays there: root's shell would run it otherwise."""
    job = dbq("enqueue", "push", app=app).stdout.strip()
    shown, typed = on_roots_terminal("work", app=app)
    assert "completed push" in shown
    assert typed == ""
    _, is_terminal, size = queue_of(app).get_job(job)["result"]
    assert (is_terminal, size) == (True, [111, 33])


def test_an_editor_cannot_type_into_roots_terminal(app: Path) -> None:
    """Nor can what the worker's user has the editor do, which reads that user's own settings."""
    dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    (app / "editor").write_text(
        f"#!{PYTHON}\nimport fcntl, os, sys, termios\n"
        "for c in b'reboot\\n': fcntl.ioctl(0, termios.TIOCSTI, bytes([c]))\n"
        "text = open(sys.argv[1]).read().replace('pending', 'cancelled')\n"
        "open(sys.argv[1], 'w').write(text)\n"
    )
    (app / "editor").chmod(0o755)
    shown, typed = on_roots_terminal("edit", app=app, env={"VISUAL": str(app / "editor")})
    assert "1 job changed, 0 removed, 0 added" in shown
    assert typed == ""
    assert queue_of(app).get_job("a1")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("chown nobody dbq.toml", "it belongs to nobody, not to root"),
        ("chown nobody:nogroup . && chmod 755 .", "belongs to nobody"),
        ("chmod 666 dbq.toml", "every user can write {app}/dbq.toml: chmod o-w"),
        ("chgrp games dbq.toml; chmod 664 dbq.toml", "its group can write {app}/dbq.toml"),
        ("chmod 777 .", "so root could be led elsewhere"),
        ("mkdir x; chown nobody x; mv dbq.toml x; ln -s x/dbq.toml dbq.toml", "belongs to nobody"),
        ("chown nobody env", "[worker].environment_file"),
    ],
)
def test_a_config_of_a_strangers_is_not_followed(app: Path, change: str, says: str) -> None:
    """One that a third user owns, can write or can put another in the place of: exit code 2."""
    dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    subprocess.run(["sh", "-ec", change], cwd=app, check=True)
    done = dbq("work", app=app)
    assert done.returncode == 2, done.stderr
    assert says.format(app=app) in done.stderr
    assert "\tpending\t" in (app / "data" / "queue.tsv").read_text()


def test_a_config_of_the_workers_own_is_followed(app: Path) -> None:
    """It decides about that user only."""
    dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    for path in (app, app / "dbq.toml", app / "env"):
        shutil.chown(path, WORKER, WORKER)
    assert dbq("work", app=app).returncode == 0
    assert queue_of(app).get_job("a1")["status"] == "completed"


@pytest.mark.parametrize("user", ["", 'user = "root"'])
def test_without_a_user_handlers_run_as_root_only_where_all_is_roots(app: Path, user: str) -> None:
    """The queue, the config and the folder of the handlers; as in a container."""
    write(app, user)
    done = dbq("work", app=app)
    assert done.returncode == 2
    assert "handlers do not run as root here; name their user in [worker].user" in done.stderr
    assert f"belongs to {WORKER}" in done.stderr
    shutil.chown(app / "data", "root", "root")
    job = dbq("enqueue", "who", app=app).stdout.strip()
    environment = {**os.environ, "PYTHONPATH": f"{app}/library"}
    command = [PYTHON, "-m", "dbbasic_queue", "work"]
    assert subprocess.run(command, cwd=app, env=environment, capture_output=True).returncode == 0
    assert queue_of(app).get_job(job)["result"][0] == 0
    (app / "handlers").mkdir()
    shutil.move(app / "jobs.py", app / "handlers")
    shutil.chown(app / "handlers", STRANGER)
    write(app, f'{user}\ndirectory = "{app}/handlers"')
    done = dbq("work", app=app)
    assert (done.returncode, f"belongs to {STRANGER}" in done.stderr) == (2, True)


def test_a_worker_that_is_not_there(app: Path) -> None:
    """A user whom the machine does not know is a fault of the config."""
    write(app, 'user = "no-such-user"')
    for command in ("work", "list"):
        done = dbq(command, app=app)
        assert done.returncode == 2
        assert "[worker].user: there is no user 'no-such-user' on this machine" in done.stderr


def test_json_of_root_is_clean(app: Path) -> None:
    """Nothing about the user is said where a program reads."""
    dbq("enqueue", "who", "{}", "--id", "a1", app=app)
    done = dbq("list", "--json", app=app)
    assert done.stderr == ""
    assert json.loads(done.stdout)["id"] == "a1"
