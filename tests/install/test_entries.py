"""What an entry runs: the library and Python as they are, whatever lies beside the handlers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import dbbasic_queue
from dbbasic_queue import Queue
from dbbasic_queue.config import sections as configs
from dbbasic_queue.config.sections import Config
from dbbasic_queue.install import entries

CHECKOUT = Path(__file__).parents[2]
JOBS = """
import json, queue, secrets
import neighbour


def tell(payload):
    return {"json": json.__file__, "queue": queue.__file__, "neighbour": neighbour.__file__}


HANDLERS = {"tell": tell}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An application, beside whose handlers lie modules with the names of others."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "jobs.py").write_text(JOBS)
    (folder / "neighbour.py").touch()
    for stranger in ("json", "queue", "secrets", "logging", "argparse", "dbbasic_queue"):
        (folder / f"{stranger}.py").write_text(
            "raise SystemExit('not the module that was meant')\n"
        )
    text = f'queue.file = "queue.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\npython = "{PYTHON}"\n'
    (folder / "dbq.toml").write_text(text)
    return configs.load(folder / "dbq.toml")


PYTHON = sys.executable


def run(config: Config, words: Sequence[str]) -> str:
    """Run an entry where the scheduler would."""
    done = subprocess.run(words, cwd=config.directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_result(config: Config, job_id: str) -> None:
    """The handlers got Python's own modules, and those of their folder that are theirs."""
    job = Queue(config.queue.file).get_job(job_id)
    assert job is not None
    assert (job["status"], job["error"]) == ("completed", None)
    found = job["result"]
    assert isinstance(found, dict)
    folder = str(config.path.parent)
    assert found["neighbour"] == f"{folder}/neighbour.py"
    assert not [name for name in ("json", "queue") if found[name].startswith(folder)]


def test_no_file_beside_the_jobs_replaces_a_module(config: Config) -> None:
    """A json.py or a dbbasic_queue.py in the folder of the handlers changes nothing."""
    job_id = Queue(config.queue.file).enqueue("tell", {})
    run(config, entries.argv(config, entries.WORK))
    check_result(config, job_id)


def test_the_same_from_a_private_folder(config: Config, tmp_path: Path) -> None:
    """The library of a system package, run by an interpreter that does not have it."""
    private = tmp_path / "private"
    shutil.copytree(Path(dbbasic_queue.__file__).parent, private / "dbbasic_queue")
    shutil.copy(CHECKOUT / "packaging/private/__main__.py", private)
    job_id = Queue(config.queue.file).enqueue("tell", {})
    run(config, [PYTHON, "-P", str(private), "work", "--config", str(config.path)])
    check_result(config, job_id)


def test_the_environment_file_is_read_first(config: Config) -> None:
    """`env FILE COMMAND` runs a command with the variables of the file."""
    file = config.path.parent / "env"
    file.write_text("WORD='50% of $HOME'\n")
    tell = "import json, os; print(json.dumps(os.environ['WORD']))"
    words = entries.command(PYTHON, entries.ENV, str(file), PYTHON, "-P", "-c", tell)
    assert json.loads(run(config, words)) == "50% of $HOME"
