"""Sample configs: every key with what it is for, ready to be changed. `dbq init` writes one.

The samples are made of what `sections.py` says of each key; only a few values and words differ
from one sample to another.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ConfigError
from ..support.files import NewFile, create, given_path, refusing
from .reader import Key, Part
from .sections import Config, name_from_folder, parse

COLUMN = 28  # where comments behind a value begin
WIDTH = 100
SCHEMA = Path(__file__).with_name("dbq.schema.json")
HEADER = """\
#:schema {schema}
# (By the line above an editor that knows TOML completes the keys, and checks them.)
#
# What dbbasic-queue runs for this application, and when.
#
# When you have changed it:
#     dbq check              is the file right, and would it work on this machine?
#     dbq-install-cron       have cron start the worker; or let systemd: dbq-install-systemd
#
# Lines that begin with # say what a key is for, or show one that you may set: take the # away.
# Paths are relative to this file. Durations are "50s", "10min", "1h30min" or "7d". Schedules are
# "every 5 minutes", @hourly, @daily, @weekly, @monthly, or the five fields of cron: "0 2 * * *" is
# each night at two.
"""


def first_config(
    folder: Path,
    *,
    name: str | None = None,
    handlers: Sequence[str] | None = None,
    also: Sequence[str] = (),
    user: str | None = None,
    python: str = sys.executable,
    url: str | None = None,
) -> str:
    """Return the text of a first config for the application in `folder`.

    Args:
        folder: where the file will be.
        name: of the queue; made of the folder's if None.
        handlers: each is `module:attribute`; if None those of a `jobs.py` in the folder, or else
            made of the name, beside `also`.
        also: handlers that other packages bring.
        user: that jobs run as; left to be filled in if None.
        python: the interpreter that has the application's packages.
        url: of the server that keeps the jobs; a file does if None.

    Raises `ConfigError` if one of these cannot stand in a config.

    >>> print(first_config(Path("/srv/my-shop")).splitlines()[14][:16])
    name = "my-shop"
    """
    folder = given_path(folder)
    known = name or name_from_folder(folder)
    if known is None:
        raise ConfigError(f"{folder} does not make a name; give one with --name")
    if Path(python).is_relative_to(folder):  # a virtual environment: both can move
        python = str(Path(python).relative_to(folder))
    own = "jobs" if (folder / "jobs.py").is_file() else f"{known.replace('-', '_')}.jobs"
    names = handlers or [*also, f"{own}:HANDLERS"]
    live: dict[str, Any] = {
        "name": known,
        "worker.handlers": names[0] if len(names) == 1 else names,
        "worker.python": python,
    }
    live |= {key: value for key, value in (("worker.user", user), ("queue.url", url)) if value}
    metrics = f"/var/lib/prometheus/node-exporter/dbq-{known}.prom"
    text = sample(HEADER.format(schema=_schema_from(folder)), live, {"health.textfile": metrics})
    parse(text, folder / "dbq.toml")
    return text


def _schema_from(folder: Path) -> str:
    """Where the JSON Schema lies, as an editor reads it in a config of that folder."""
    if SCHEMA.is_relative_to(folder):
        return quote(str(SCHEMA.relative_to(folder)))
    return SCHEMA.as_uri()  # as taplo reads no space in a path


def sample(
    header: str,
    live: Mapping[str, Any],
    examples: Mapping[str, Any] | None = None,
    words: Mapping[str, str] | None = None,
) -> str:
    """Return a config with every key that suits a queue in a file, each with what it is for.

    Where `live` has a `queue.url`, it stands in place of the file.

    Args:
        header: what the file begins with.
        live: keys that are set to another value than in all samples, as `section.key`; None for
            one that stands in a comment here.
        examples: other values for keys in a comment.
        words: what a key (or section) is for, in other words.
    """
    lines = [header]
    _, name, *sections = fields(Config)
    lines += _key("name", name.metadata["key"], "", live, examples or {}, words or {})
    for each in sections:
        part: Part = each.metadata["part"]
        title = f"[[{each.name}]]" if part.many else f"[{each.name}]"
        if part.named:
            title = f"[{each.name}.{part.example}]"
        hidden = "" if part.live and not part.many else "# "
        lines += ["", *_with_comment(hidden + title, (words or {}).get(each.name, part.about))]
        for inner in fields(part.keys):
            path = f"{each.name}.{inner.name}"
            said: Key = inner.metadata["key"]
            if path == "queue.file" and "queue.url" in live:
                continue
            if path in live or not said.hidden:
                lines += _key(path, said, hidden, live, examples or {}, words or {})
    return "\n".join(lines) + "\n"


def write_first_config(path: Path, text: str) -> None:
    """Write `text` to the new file `path`, whole or not at all.

    Raises `ConfigError` if there is such a file already, or it cannot be written.
    """
    with refusing(path, "cannot write", ConfigError):
        try:
            create(NewFile(path, text.encode(), mode=None, synced=False))
        except FileExistsError:
            raise ConfigError(f"{path}: is there already, and was left as it is") from None


def _key(
    path: str,
    said: Key,
    hidden: str,
    live: Mapping[str, Any],
    examples: Mapping[str, Any],
    words: Mapping[str, str],
) -> Iterator[str]:
    """The line of a key, with its comment behind or above it."""
    value = live.get(path, said.example if said.example is not None else said.default)
    is_live = live[path] is not None if path in live else said.live
    if value is None:
        value = said.example if said.example is not None else said.default
    if not is_live:
        hidden, value = "# ", examples.get(path, value)
    key = path.rpartition(".")[2]
    yield from _with_comment(f"{hidden}{key} = {_toml(value)}", words.get(path, said.about))


def _with_comment(line: str, about: str) -> list[str]:
    behind = f"{line:<{COLUMN}}# {about}"
    if len(line) < COLUMN and len(behind) <= WIDTH and "\n" not in about:
        return [behind]
    return [*(f"# {row}" for row in textwrap.wrap(about, WIDTH - 2, break_on_hyphens=False)), line]


def _toml(value: Any) -> str:
    """A value as TOML writes it; a string's escapes are JSON's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
