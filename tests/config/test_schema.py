"""The JSON Schema of dbq.toml, tried with a validator that is not ours."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import samples
from specimens import TOML

from dbbasic_queue.config.schema import schema
from dbbasic_queue.config.sections import Config, parse
from dbbasic_queue.config.starter import first_config
from dbbasic_queue.errors import ConfigError

NEEDED = '[queue]\nfile = "queue.tsv"\n[worker]\nhandlers = "myapp.jobs:HANDLERS"\n'


@functools.cache
def validator() -> Any:
    """Return what judges by the schema. It takes a second to import, so one process does it."""
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def test_the_schema_is_one() -> None:
    """It keeps the rules of JSON Schema itself, and each key in it is described."""
    validator().check_schema(schema())
    for name, section in schema()["properties"].items():
        table = section.get("items", section)
        if table.get("additionalProperties"):
            table = table["additionalProperties"]  # of which there are many, by their names
        keys = table.get("properties", {})
        assert name == "name" or keys
        assert all(key["description"] for key in (section, *keys.values()))


@pytest.mark.parametrize(
    "text",
    [
        TOML,
        NEEDED,
        first_config(Path("/srv/shop")),
        samples.files()[samples.PACKAGING / "dbq.toml"],
    ],
    ids=["specimen", "smallest", "init", "packaged"],
)
def test_samples_are_valid(text: str) -> None:
    """Samples keep the schema, as they are and with all that is commented out put into force."""
    for each in (text, re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)):
        parse(each, "/srv/shop/dbq.toml")
        validator().validate(tomllib.loads(each))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[queue]\nfile = "queue.tsv"\n',
        NEEDED + 'color = "red"\n',
        NEEDED + "[prun]\n",
        NEEDED + "timeout = 1.5\n",
        NEEDED + "max_attempts = 0\n",
        NEEDED + 'concurrency = "2"\n',
        NEEDED + 'hardening = "none"\n',
        NEEDED + 'python = "python3"\n',
        NEEDED + 'umask = "9"\n',
        NEEDED + 'cpu_quota = "half"\n',
        NEEDED + 'writable = "uploads"\n',
        NEEDED + 'environment = { "A B" = "x" }\n',
        NEEDED + "environment = { A = 1 }\n",
        NEEDED + '[log]\nfrequency = "daily"\n',
        NEEDED + "[recurring]\n",
        NEEDED + '[[recurring]]\nname = "A"\ntype = "t"\nschedule = "@daily"\n',
        NEEDED.replace("queue.tsv", "queue.txt"),
    ],
)
def test_wrong_ones_are_refused_by_both(text: str) -> None:
    """What the schema refuses, the loader refuses too."""
    with pytest.raises(ConfigError):
        parse(text, "/srv/shop/dbq.toml")
    assert not validator().is_valid(tomllib.loads(text))


POOL = [
    *("", "a", "a:b", "1", "0", "10min", "1h 30min", "2w", "50%", "2G", "500", "027", "0027", "7"),
    "100/min",
    *("@daily", "0 2 * * *", "every 5 minutes", "* * * * *", "full", "normal", "network", "weekly"),
    *(
        "redis://h/0",
        "a.tsv",
        "b.prom",
        "b.html",
        "venv/bin/python",
        "/usr/bin/python3",
        "x/y",
        "https://a.b/c",
        "a@b.c",
    ),
    *(r"CORP\\svc", "machine$", "Zoë", "a-b", "-f", True, False, 0, 1, 5, -20, 19, 1000, 10**7),
    *(["a"], [], ["path"], [0, 24], ["/x", "y"], {"A": "x"}, {"a b": "x"}, {}),
]
KEYS = [
    (section.name, key.name)
    for section in fields(Config)[2:]
    for key in fields(section.metadata["part"].keys)
]


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_what_the_loader_takes_the_schema_takes(section: str, key: str) -> None:
    """An editor that goes by the schema finds no fault with a config that works."""
    taken = 0
    for value in POOL:
        document: dict[str, Any] = {
            "queue": {"file": "q.tsv"},
            "worker": {"handlers": "a:B"},
            "recurring": {"name": "r", "type": "t", "schedule": "@yearly"},
            "prune": {"failed": "1d"},
            "log": {"file": "a.log"},
            "report": {"file": "a.html"},
        }
        if section == "notify":
            document |= {"health": {}, "notify": {"command": ["a"]}}
        if key in ("url", "url_file"):  # in place of the file
            document["queue"] = {}
        if section == "commands":
            document[section] = {"backup": {"run": ["a", "{path}"]}}
            document[section]["backup"][key] = value
        elif section == "types":
            document[section] = {"mail": {key: value}}
        else:
            document.setdefault(section, {})[key] = value
        document["recurring"] = [document["recurring"]]
        try:
            parse(toml(document), "/srv/shop/dbq.toml")
        except ConfigError:
            continue
        taken += 1
        assert validator().is_valid(document), value
    assert taken


def toml(document: dict[str, Any]) -> str:
    """The document as TOML; JSON's strings, numbers and arrays are TOML's."""
    lines = []
    for name, section in document.items():
        many = isinstance(section, list)
        lines.append(f"[[{name}]]" if many else f"[{name}]")
        for key, value in (section[0] if many else section).items():
            if isinstance(value, dict):
                inner = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
                lines.append(f"{key} = {{ {inner} }}")
            else:
                lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)
