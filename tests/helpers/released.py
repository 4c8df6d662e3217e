"""The released dbbasic-queue 1.0.0 and dbbasic-tsv 1.0.2, as `make test` installs them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

V1 = Path(__file__).parents[2] / ".cache" / "v1"


def require() -> None:
    """Fail with what to do when they are not installed."""
    if not (V1 / "dbbasic_queue" / "queue.py").exists():
        raise AssertionError(
            f"{V1} holds no dbbasic-queue 1.0.0: run `make test` or `make .cache/v1/.ready` once,"
            " which installs it there"
        )


def run(code: str, folder: Path, **values: Any) -> Any:
    """Run `code` with 1.0.0 in a process of its own; `values` are its variables.

    Returns what the code leaves in `answer`, through JSON. The file is `data/queue.tsv` below
    `folder`, the working directory. Neither this library nor any other of this environment can
    be imported there.
    """
    require()
    program = (
        "import json, sys; globals().update(json.load(sys.stdin)); answer = None\n"
        "import dbbasic_queue, dbbasic.tsv\n"
        f"assert dbbasic_queue.__version__ == '1.0.0' and {str(V1)!r} in dbbasic_queue.__file__\n"
        f"assert {str(V1)!r} in dbbasic.tsv.__file__\n"
        "from dbbasic_queue import enqueue, process_jobs, get_job, cancel_job\n"
        "from dbbasic.tsv import TSV\n"
        f"{code}\n"
        "print('\\n' + json.dumps(answer))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", program],
        input=json.dumps(values),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(V1), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("\n\n")[2] or done.stdout.splitlines()[-1])


def plain_tsv() -> Any:
    """The class TSV of dbbasic-tsv 1.0.2, whatever version is installed beside us."""
    require()
    spec = importlib.util.spec_from_file_location("plain_tsv", V1 / "dbbasic" / "tsv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
