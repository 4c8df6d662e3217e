"""The JSON Schema of dbq.toml, tried with a validator that is not ours."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import samples
from specimens import TOML

from dbbasic_queue.config.schema import schema
from dbbasic_queue.config.sections import parse
from dbbasic_queue.config.starter import first_config
from dbbasic_queue.errors import ConfigError

NEEDED = '[queue]\nfile = "queue.tsv"\n[worker]\nhandlers = "myapp.jobs:HANDLERS"\n'
VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_the_schema_is_one() -> None:
    """It keeps the rules of JSON Schema itself, and each key in it is described."""
    jsonschema.Draft202012Validator.check_schema(schema())
    for name, section in schema()["properties"].items():
        keys = section.get("items", section).get("properties", {})
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
        VALIDATOR.validate(tomllib.loads(each))


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
    assert not VALIDATOR.is_valid(tomllib.loads(text))
