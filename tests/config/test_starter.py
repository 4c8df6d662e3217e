"""The config that `dbq init` writes."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.config import starter
from dbbasic_queue.config.schema import schema
from dbbasic_queue.config.sections import Config, load, parse
from dbbasic_queue.config.starter import first_config, write_first_config
from dbbasic_queue.errors import ConfigError


def test_text_loads_without_faults(tmp_path: Path) -> None:
    """The file of a new application is right as it is, and says what was asked for."""
    folder = tmp_path / "My Shop"
    folder.mkdir()
    write_first_config(folder / "dbq.toml", first_config(folder))
    config = load(folder / "dbq.toml")
    assert config.name == "my-shop"
    assert config.worker.handlers == ("my_shop.jobs:HANDLERS",)
    assert config.worker.python == sys.executable
    assert config.worker.user is None
    assert config.queue.file == folder / "data/queue.tsv"


def test_handlers_that_are_there_are_proposed(tmp_path: Path) -> None:
    """A `jobs.py` beside the config is named as it is imported from there."""
    (tmp_path / "jobs.py").write_text("HANDLERS = {}\n")
    text = first_config(tmp_path, name="shop")
    assert parse(text, tmp_path / "dbq.toml").worker.handlers == ("jobs:HANDLERS",)


def test_options() -> None:
    """Name, handlers, user and interpreter are taken; one inside the folder is written relative."""
    text = first_config(
        Path("/srv/app"),
        name="shop",
        handlers=["a.b:C"],
        user="zoe",
        python="/srv/app/venv/bin/python",
    )
    config = parse(text, "/srv/app/dbq.toml")
    assert (config.name, config.worker.handlers, config.worker.user) == ("shop", ("a.b:C",), "zoe")
    assert config.worker.python == "/srv/app/venv/bin/python"
    assert 'python = "venv/bin/python"' in text


def test_an_editor_finds_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line names the schema that is installed, relative if that is in the folder."""
    words = first_config(tmp_path).splitlines()[0].split()
    assert words[0] == "#:schema"
    assert words[1].startswith("file:///")
    assert json.loads(Path(unquote(urlsplit(words[1]).path)).read_text()) == schema()
    monkeypatch.setattr(starter, "SCHEMA", tmp_path / "my venv" / "dbq.schema.json")
    assert first_config(tmp_path).startswith("#:schema my%20venv/dbq.schema.json\n")


def test_what_is_commented_out_is_right_too() -> None:
    """Every example in a comment can be put into force by taking the # away."""
    text = first_config(Path("/srv/shop"))
    live = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    assert live.count("\n# ") < text.count("\n# ") - 10
    config = parse(live, "/srv/shop/dbq.toml")
    (job,) = config.recurring
    assert (job.name, job.jitter, job.catch_up) == ("nightly-report", 300, True)
    assert config.worker.user == "www-data"
    assert config.worker.environment == {"DJANGO_SETTINGS_MODULE": "myapp.settings"}
    assert config.health is not None
    assert config.health.ping_url
    assert str(config.health.textfile).endswith("dbq-shop.prom")


def test_every_key_is_explained() -> None:
    """No key that suits a queue in a file is missing from the config, live or in a comment."""
    text = first_config(Path("/srv/shop"))
    sections = dict(
        re.findall(r"^(?:# )?\[+([a-z]+)[.a-z]*\]+ .*\n((?:.+\n)*)", text, re.MULTILINE)
    )
    for section in dataclasses.fields(Config)[2:]:
        keys = re.findall(r"^(?:# )?([a-z_]+) = ", sections.pop(section.name), re.MULTILINE)
        known = dataclasses.fields(section.metadata["part"].keys)
        assert keys == [key.name for key in known if not key.metadata["key"].hidden]
    assert sections == {}
    about = text.split("\n")[1:]  # below the line that names the schema, wherever that lies
    assert max(map(len, about)) <= 100


def test_never_over_an_existing_file(tmp_path: Path) -> None:
    """A file, or a link to nowhere, that is there already is left as it is."""
    path = tmp_path / "dbq.toml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already, and was left as it is"):
        write_first_config(path, "yours")
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is there already"):
        write_first_config(path, "yours")
    assert [each.name for each in tmp_path.iterdir()] == ["dbq.toml"]


def test_folder_that_is_missing(tmp_path: Path) -> None:
    """A file that cannot be written is told, and nothing is left behind."""
    with pytest.raises(ConfigError, match=r"cannot write .*: No such file or directory"):
        write_first_config(tmp_path / "gone/dbq.toml", "x")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "My Shop"}, "name: 'My Shop' is not a name"),
        ({"handlers": ["jobs.py"]}, "[worker].handlers: 'jobs.py' is not module:attribute"),
        ({"user": "a b"}, "[worker].user: 'a b' is not a user name"),
        ({"user": 'a"\nx = "1'}, "[worker].user: holds the character U+000A"),
        ({"python": "python3"}, "[worker].python: 'python3' is a command"),
    ],
)
def test_options_that_no_config_takes(options: dict[str, str], said: str) -> None:
    """What the config would refuse is refused before it is written."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        first_config(Path("/srv/shop"), **options)


def test_folder_without_a_name() -> None:
    """Where the folder gives no name, one is asked for."""
    with pytest.raises(ConfigError, match="give one with --name"):
        first_config(Path("/"))


@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), max_size=40))
def test_any_folder(name: str) -> None:
    """Whatever a folder is called, its file loads, or the name is asked for."""
    folder = Path("/srv", name)
    try:
        text = first_config(folder, python="/usr/bin/python3")
    except ConfigError:
        return
    assert parse(text, "/srv/dbq.toml").worker.python == "/usr/bin/python3"
