"""Importing the handlers as a worker would: by its interpreter, user, folder and environment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from ..config.environment_file import read_environment_file
from ..config.sections import Config
from ..install import entries
from ..support.account import Account
from ..support.durations import format_duration
from ..version import VERSION
from .finding import Problem, fault, warning

WHERE = "[worker].handlers"
# Runs under the configured interpreter, whose version and packages are not known beforehand. What
# the application prints at its import goes to standard error, only the answer to standard output.
PROGRAM = """
import importlib, importlib.util, json, os, sys, traceback
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
found = {"python": sys.version.split()[0]}
sys.path[:0] = sys.argv[2:]
found["of"] = {}
try:
    import dbbasic_queue
    found["library"] = getattr(dbbasic_queue, "__version__", "without a version")
except BaseException as error:
    found["library_error"] = "%s: %s" % (type(error).__name__, error)
found["apprise"] = importlib.util.find_spec("apprise") is not None
found["hidden"] = sorted(
    name for name in os.listdir() if name.partition(".")[0] in sys.stdlib_module_names
    and (name.endswith(".py") or os.path.exists(os.path.join(name, "__init__.py"))))
home = os.path.dirname(os.__file__)
own = [n for n, path in enumerate(sys.path) if path in (home, home + "/lib-dynload")]
sys.path.insert(max(own, default=-1) + 1, os.getcwd())
for name in filter(None, sys.argv[1].split(",")):  # none: there are commands only
    module, _, attribute = name.partition(":")
    found["of"][name] = of = {}
    try:
        value = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
        if hasattr(value, "get") and hasattr(value, "keys"):
            of["types"] = [str(key) for key in value.keys()]
            of["no_types"] = [repr(key) for key in value.keys() if not isinstance(key, str)]
            of["no_handlers"] = [str(key) for key in value.keys() if not callable(value.get(key))]
        else:
            of["error"] = "is a %s, not a dict of type -> callable" % type(value).__name__
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__)
                  if "importlib" not in frame.filename and frame.filename != "<string>"]
        place = " (%s, line %s)" % (frames[-1].filename, frames[-1].lineno) if frames else ""
        of["error"] = "cannot be imported: %s: %s%s" % (type(error).__name__, error, place)
json.dump(found, answer)
answer.flush()
os._exit(0)
"""


def probe(
    config: Config, account: Account, timeout: float
) -> tuple[frozenset[str] | None, list[Problem]]:
    """Import the handlers in a process of the user `account`, for at most `timeout` seconds.

    Where the config has commands only, the interpreter is asked all the same: it runs the worker.
    Returns the job types that have a handler, or None if the handlers cannot be imported, and what
    is wrong. The caller has asked `access.py` before whether the user can reach the interpreter
    and the folder.
    """
    environment, problems = _environment(config, account)
    library = entries.private_folder()  # where the entries find what the interpreter does not
    identity: dict[str, Any] = {}
    if not account.is_me:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": [*account.groups]}
    words = [",".join(config.worker.handlers or ()), *([str(library)] if library else [])]
    try:
        process = subprocess.Popen(
            [config.worker.python, "-P", "-B", "-c", PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=config.directory,
            env=environment,
            start_new_session=True,
            **identity,
        )
    except OSError as error:
        said = f"{account.name} cannot start {config.worker.python}: {error.strerror}"
        return None, [*problems, fault("[worker].python", said)]
    output, errors, in_time = _await(process, timeout)
    if not in_time:
        names = " and ".join(config.worker.handlers or ())
        said = f"importing {names} took longer than {format_duration(int(timeout))}"
        return None, [*problems, fault(WHERE, said)]
    try:
        answer = json.loads(output)
    except ValueError:
        said = f"{config.worker.python} ended with {process.returncode}: {_last_line(errors)}"
        return None, [*problems, fault("[worker].python", said)]
    types, found = _judge(config, answer)
    return types, problems + found


def _judge(config: Config, answer: dict[str, Any]) -> tuple[frozenset[str] | None, list[Problem]]:
    python = config.worker.python
    found = []
    if "library_error" in answer:
        said = f"{python} cannot import dbbasic_queue: {answer['library_error']}; "
        found.append(fault("[worker].python", said + f"{python} -m pip install dbbasic-queue"))
    elif answer["library"] != VERSION:
        said = f"{python} has dbbasic_queue {answer['library']}, this is {VERSION}"
        found.append(warning("[worker].python", said))
    if config.notify and config.notify.urls and not answer["apprise"]:
        said = f"{python} cannot import Apprise, which tells them: {python} -m pip install apprise"
        said += "; for Debian's own Python, apt-get install python3-apprise"
        found.append(fault("[notify].urls", said))
    for file in answer["hidden"]:
        said = f"{config.directory / file} bears the name of a module of Python, which is imported"
        found.append(warning(WHERE, f"{said} in its place: rename it"))
    whose: dict[str, str] = {}
    for name, of in answer["of"].items():
        if "error" in of:
            with_what = f"with Python {answer['python']} in {config.directory}"
            found.append(fault(WHERE, f"{name} {of['error']}; {with_what}"))
            continue
        found.extend(_judge_one(name, of))
        for key in of["types"]:
            if key in whose:
                both = f"both {whose[key]} and {name}"
                found.append(fault(WHERE, f"{both} have a handler for {key!r}: take one out"))
            whose[key] = name
    failed = any("error" in of for of in answer["of"].values())
    return None if failed else frozenset(whose), found


def _judge_one(name: str, of: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with the dict of this name."""
    if not of["types"]:
        yield warning(WHERE, f"{name} is empty: every job would fail")
    for key in of["no_types"]:
        yield fault(WHERE, f"{name} has the key {key}, which is not a string")
    for key in of["no_handlers"]:
        yield fault(WHERE, f"{name}[{key!r}] cannot be called")


def _environment(config: Config, account: Account) -> tuple[dict[str, str], list[Problem]]:
    """Return what the entries set, and what cron and systemd give every program."""
    given = {
        "HOME": str(account.home),
        "LOGNAME": account.name,
        "USER": account.name,
        "SHELL": "/bin/sh",
        **config.environment_variables,
    }
    file = config.worker.environment_file
    if file is None:
        return given, []
    try:
        variables = read_environment_file(file)
    except OSError:
        return given, []  # told by `access.py`
    except ValueError as error:
        return given, [fault("[worker].environment_file", f"{file}: {error}")]
    own = {"DBQ_FILE": str(config.queue.file), "DBQ_URL": config.queue.url}
    found = [
        warning(
            "[worker].environment_file",
            f"{file} sets {name}, by which the worker does not go: [queue] says where the jobs"
            " are, and url_file there holds an address with a password",
        )
        for name in own
        if name in variables and variables[name] != own[name]
    ]
    return {**given, **variables}, found


def _await(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bytes, bool]:
    """Return output, errors and whether it ended in time; what it has started is killed."""
    for seconds in (timeout, 5):  # the second time for what it leaves when it is killed
        try:
            output, errors = process.communicate(timeout=seconds)
            return output, errors, seconds == timeout
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return b"", b"", False


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")
