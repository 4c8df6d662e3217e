"""What is built is what is here: the wheel and the sdist, looked into and used."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import dbbasic_queue

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = PROJECT["tool"]["setuptools"]["package-dir"]  # package in the wheel -> folder here
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "data", "e2e", "bench"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of this checkout, and the wheel made from that sdist."""
    copy = tmp_path_factory.mktemp("checkout") / "source"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The wheel."""
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def info(wheel: zipfile.ZipFile, name: str) -> str:
    """A file of the wheel's dist-info."""
    return wheel.read(f"dbbasic_queue-{dbbasic_queue.__version__}.dist-info/{name}").decode()


def test_the_names_of_what_is_built(built: Path) -> None:
    """One pure wheel and one sdist, by the version of the package."""
    version = dbbasic_queue.__version__
    assert sorted(path.name for path in built.iterdir()) == [
        f"dbbasic_queue-{version}-py3-none-any.whl",
        f"dbbasic_queue-{version}.tar.gz",
    ]


def test_the_version_is_one() -> None:
    """pyproject.toml, the package and the changelog speak of the same version."""
    version = PROJECT["project"]["version"]
    assert version == dbbasic_queue.__version__
    released = r"(?m)^## \[(?!Unreleased)(.*?)\]"
    assert re.search(released, (ROOT / "CHANGELOG.md").read_text())[1] == version


def test_the_wheel_has_one_top_level(wheel: zipfile.ZipFile) -> None:
    """Nothing but dbbasic_queue is put into site-packages: no `cron`, `systemd` or `packaging`."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"dbbasic_queue", f"dbbasic_queue-{dbbasic_queue.__version__}.dist-info"}
    assert info(wheel, "top_level.txt").split() == ["dbbasic_queue"]


def sources(folder: str) -> set[str]:
    """The Python files below a folder of the checkout, by their path in it."""
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}


def test_the_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    """Each module of each wing is in the wheel as it is here, with the mark that it is typed.

    And the schema, which `dbq init` names for editors.
    """
    more = {"dbbasic_queue/py.typed", "dbbasic_queue/config/dbq.schema.json"}
    here = sources("dbbasic_queue") | more
    modules = r"dbbasic_queue/(?!templates/).+"
    there = {name for name in wheel.namelist() if re.fullmatch(modules, name)}
    assert there == here
    assert all(wheel.read(name) == (ROOT / name).read_bytes() for name in here)


def test_every_wing_is_a_package_of_the_project() -> None:
    """pyproject.toml lists each folder with modules, and each folder of templates, once."""
    wings = {Path(name).parent.as_posix().replace("/", ".") for name in sources("dbbasic_queue")}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted([*wings, *MAPPED])
    assert all((ROOT / wing.replace(".", "/") / "__init__.py").is_file() for wing in wings)


def test_the_wheel_holds_every_template(wheel: zipfile.ZipFile) -> None:
    """Each template here is in the wheel, byte for byte, and no other."""
    wanted = {
        f"{package.replace('.', '/')}/{path.name}": path.read_bytes()
        for package, folder in MAPPED.items()
        for path in (ROOT / folder).glob("*.j2")
    }
    found = {name: wheel.read(name) for name in wheel.namelist() if "/templates/" in name}
    assert found == wanted
    inside = (path.relative_to(ROOT) for path in ROOT.rglob("*.j2"))
    everywhere = {
        path for path in inside if path.parts[0] in ("cron", "systemd", "views", "packaging")
    }
    assert len(everywhere) == len(wanted) > 5


@pytest.mark.parametrize("folder", sorted(set(MAPPED.values())))
def test_a_folder_of_templates_is_not_a_package(folder: str) -> None:
    """From a checkout, `import systemd` or `import packaging` finds what others call so."""
    for path in (ROOT / folder, *(ROOT / folder).relative_to(ROOT).parents):
        assert not (ROOT / path / "__init__.py").exists()


def test_the_record_is_true(wheel: zipfile.ZipFile) -> None:
    """Each file of the wheel is in RECORD, with its hash and size."""
    recorded = {name: (digest, size) for name, digest, size in csv.reader(
        info(wheel, "RECORD").splitlines()
    )}  # fmt: skip
    assert set(recorded) == set(wheel.namelist())
    for name, (digest, size) in recorded.items():
        if not name.endswith("/RECORD"):
            data = wheel.read(name)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={hashed}", str(len(data)))


def test_the_metadata_is_valid(wheel: zipfile.ZipFile) -> None:
    """An index would take it: required fields, valid values, and the README as description."""
    text = info(wheel, "METADATA")
    metadata = Metadata.from_email(text.encode(), validate=True)
    assert metadata.name == "dbbasic-queue"
    assert str(metadata.version) == dbbasic_queue.__version__
    assert metadata.license_expression == "MIT"
    assert metadata.license_files == ["LICENSE"]
    assert str(metadata.requires_python) == ">=3.11"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description.strip() == (ROOT / "README.md").read_text().strip()
    required = {req.name for req in metadata.requires_dist if req.marker is None}
    assert required == {"dbbasic-tsv", "python-crontab", "jinja2"}
    assert len(email.message_from_string(text)["Summary"]) < 200
    assert info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_every_command_exists(wheel: zipfile.ZipFile) -> None:
    """Each command of the wheel leads to a function that is there."""
    lines = [line for line in info(wheel, "entry_points.txt").splitlines() if " = " in line]
    commands = dict(line.split(" = ") for line in lines)
    assert commands == PROJECT["project"]["scripts"]
    for target in commands.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_sdist_holds_what_it_takes_to_build_and_test(built: Path) -> None:
    """Sources, tests, templates and Makefile, and nothing that was made or cached."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    wanted = {"Makefile", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    wanted |= {"pyproject.toml", "MANIFEST.in"}
    wanted |= {name for name in sources("tests") if not {"bench", "e2e"} & {*name.split("/")}}
    wanted |= sources("dbbasic_queue") | sources("examples") | {"tests/helpers/tables.py"}
    wanted |= {template.relative_to(ROOT).as_posix() for folder in MAPPED.values()
               for template in (ROOT / folder).glob("*.j2")}  # fmt: skip
    assert wanted <= names
    assert not [name for name in names if re.search(r"\.py[co]$|__pycache__|/\.[a-z]", name)]


def test_the_wheel_works(built: Path, tmp_path: Path) -> None:
    """The wheel's own code, away from this checkout, runs a job and finds its templates."""
    (path,) = built.glob("*.whl")
    zipfile.ZipFile(path).extractall(tmp_path / "site")
    code = """
import dbbasic_queue, dbbasic_queue.install.templates as render
from dbbasic_queue import enqueue, get_job, process_jobs
job_id = enqueue("greet", {"name": "Zoë"})
process_jobs({"greet": lambda payload: "Hello " + payload["name"]})
print(get_job(job_id)["result"])
print(dbbasic_queue.__file__)
print(render.template_folder())
print(sorted(path.name for path in render.template_folder().glob("cron/*.j2")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONUTF8": "1", "DBQ_FILE": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result, file, templates, cron = done.stdout.splitlines()
    assert result == "Hello Zoë"
    assert Path(file) == tmp_path / "site" / "dbbasic_queue" / "__init__.py"
    assert Path(templates) == tmp_path / "site" / "dbbasic_queue" / "templates"
    assert cron == str(sorted(path.name for path in (ROOT / "cron").glob("*.j2")))
