"""`make test-all`: the tests on each Python that we support and find, against the built wheel.

Theory of operation
-------------------
Each Python gets a virtual environment of its own with the wheel in it, and a copy of the source in
which `dbbasic_queue` is a link to the installed one: wherever a test looks, it finds the wheel.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import packages

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# Where interpreters are besides $PATH: pyenv's, uv's and those that were built by hand.
PLACES = (
    "~/.pyenv/versions/{}*/bin",
    "~/.local/share/uv/python/cpython-{}*/bin",
    "/opt/python{}/bin",
)
STARTS = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def main() -> None:
    """Run the tests on each Python that is found; the exit status is 1 if any test failed."""
    parser = argparse.ArgumentParser(description=str(main.__doc__))
    parser.add_argument("--versions", default=" ".join(VERSIONS), help="(%(default)s)")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("pytest", nargs="*", help="arguments for pytest (tests)")
    arguments = parser.parse_args()
    told = {}
    for version in arguments.versions.split():
        python = interpreter(version)
        if python is None:
            told[version] = "not found on this machine"
            continue
        print(f"test-all: Python {version}: {python}", flush=True)
        passed = test(version, python, arguments.wheel.resolve(), arguments.pytest)
        told[version] = "passed" if passed else "FAILED"
    for version, outcome in told.items():
        print(f"test-all: Python {version}: {outcome}")
    sys.exit("FAILED" in told.values())


def interpreter(version: str) -> str | None:
    """A Python of this version that can make virtual environments."""
    name = f"python{version}"
    found = [
        str(path)
        for place in PLACES
        for path in sorted(Path("/").glob(os.path.expanduser(place).format(version)[1:]))
    ]
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), *found]:
        path = shutil.which(name, path=folder)
        if path and _starts(path, version):
            return path
    return None


def _starts(path: str, version: str) -> bool:
    """Whether it is what its name says; pyenv's shims refuse to run what is not chosen."""
    done = subprocess.run([path, "-c", STARTS], capture_output=True, text=True)
    return done.stdout.strip() == version


def test(version: str, python: str, wheel: Path, arguments: Sequence[str]) -> bool:
    """Run the tests on one Python; whether they passed."""
    folder = packages.emptied(packages.SOURCE / ".cache" / "test-all" / version)
    venv = folder / "venv"
    packages.run([python, "-m", "venv", str(venv)], folder)
    needs = packages.project()["optional-dependencies"]["test"]
    pip = [
        str(venv / "bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    packages.run([*pip, str(wheel), *needs], folder)
    (installed,) = venv.glob("lib/python*/site-packages/dbbasic_queue")
    source = folder / "source"
    packages.copy_source(source)
    shutil.rmtree(source / "dbbasic_queue")
    (source / "dbbasic_queue").symlink_to(installed)
    for released in (".cache/v1", ".cache/family"):  # other people's packages, see the Makefile
        if (packages.SOURCE / released).is_dir():
            shutil.copytree(packages.SOURCE / released, source / released)
    environment = {k: v for k, v in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV", k)}
    wanted = arguments or ["tests", "--pyargs", "dbbasic_queue"]
    done = subprocess.run(
        [str(venv / "bin/pytest"), "-n", "auto", "--dist", "worksteal", *wanted],
        cwd=source,
        env=environment,
    )
    return done.returncode == 0


if __name__ == "__main__":
    main()
