"""`make deb`, `make rpm`, `make dist`: what is handed out, into dist/, the same bytes each time.

Theory of operation
-------------------
Only what git tracks is built, from a copy with plain modes, so that neither a build folder nor a
umask nor an editor's backup gets into a package. The date of all files is that of the last commit
(SOURCE_DATE_EPOCH, see reproducible-builds.org). Where there is no git, as in an unpacked sdist,
the whole folder is taken, and the date is that of debian/changelog.
"""

from __future__ import annotations

import argparse
import email.utils
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sbom

SOURCE = Path(__file__).resolve().parents[2]
DIST = SOURCE / "dist"
DEB_NEEDS = (
    *("build-essential", "debhelper", "dh-python", "logrotate"),
    *("python3-crontab", "python3-jinja2"),
)
RPM_NEEDS = ("logrotate", "python3-crontab", "python3-jinja2", "rpm", "unzip")
LEFT_OUT = {".git", ".venv", ".cache", "build", "dist", "data", "__pycache__"}


def main() -> None:
    """Build what the arguments say."""
    makers: dict[str, Callable[[str], list[Path]]] = {"deb": deb, "rpm": rpm, "dist": dist}
    parser = argparse.ArgumentParser(description="Build packages into dist/.")
    parser.add_argument("what", choices=makers)
    parser.add_argument("--version", help="deb: instead of the project's, to test upgrades")
    parser.add_argument("--into", type=Path, default=DIST, help="the folder (dist/)")
    arguments = parser.parse_args()
    os.umask(0o022)
    os.environ["SOURCE_DATE_EPOCH"] = str(source_date())
    os.environ["LC_ALL"] = "C.UTF-8"
    arguments.into.mkdir(parents=True, exist_ok=True)
    try:
        made = makers[arguments.what](arguments.version or project()["version"])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))}: exit {error.returncode}")
    for path in made:
        target = arguments.into / path.name
        shutil.move(path, target)
        print(target.relative_to(SOURCE) if target.is_relative_to(SOURCE) else target)


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    return table


def source_date() -> int:
    """Unix seconds that stand for the date of the source."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if (SOURCE / ".git").exists():
        return int(run(["git", "log", "-1", "--format=%ct"], SOURCE))
    changelog = (SOURCE / "packaging/debian/changelog").read_text()
    found = re.search(r"^ -- .*>  (.*)$", changelog, re.MULTILINE)
    assert found is not None
    return int(email.utils.parsedate_to_datetime(found[1]).timestamp())


# --- What is built --------------------------------------------------------------------------------


def deb(wanted: str) -> list[Path]:
    """The Debian package; `wanted` is its version."""
    need(DEB_NEEDS)
    folder = workplace("deb")
    tree = folder / f"dbbasic-queue-{wanted}"
    copy_source(tree)
    shutil.copytree(tree / "packaging/debian", tree / "debian")
    (tree / "debian/rules").chmod(0o755)
    changelog = tree / "debian/changelog"
    changelog.write_text(re.sub(r"\(.*?\)", f"({wanted})", changelog.read_text(), count=1))
    vendor(tree / "vendor")
    # One thread, no source package, no signature; nothing of the caller's make.
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--jobs=1"]
    run(command, tree, loud=True)
    return [*folder.glob("*.deb")]


def rpm(wanted: str) -> list[Path]:
    """The RPM package."""
    need(RPM_NEEDS)
    folder = workplace("rpm")
    sources = folder / "SOURCES"
    tree = folder / f"dbbasic-queue-{wanted}"
    copy_source(tree)
    wheel = vendor(sources)
    archive(files_below(tree), sources / f"{tree.name}.tar.gz")
    spec = folder / "dbbasic-queue.spec"
    spec.write_text(filled_in(tree, wanted, wheel))
    # Debian's rpm knows of no installed package, so what it needs is looked for by `need`.
    foreign = ["--nodeps"] if Path("/etc/debian_version").exists() else []
    settings = {
        "_topdir": str(folder),
        "_buildhost": "localhost",
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
        "source_date_epoch_from_changelog": "0",
        "_build_id_links": "none",
    }
    defines = [word for key, value in settings.items() for word in ("-D", f"{key} {value}")]
    run(["rpmbuild", "-bb", "--quiet", *foreign, *defines, str(spec)], folder, loud=True)
    return [*folder.glob("RPMS/noarch/*.rpm")]


def filled_in(tree: Path, wanted: str, wheel: Path) -> str:
    """The spec with what it has from elsewhere."""
    users = (tree / "packaging/sysusers.conf").read_text().splitlines()
    values = {
        "VERSION": wanted,
        "WHEEL": wheel.name,
        "DATE": time.strftime("%a %b %d %Y", time.gmtime(source_date())),
        "SYSUSERS": "\n".join(line for line in users if not line.startswith("#")),
    }
    spec = (tree / "packaging/rpm/dbbasic-queue.spec").read_text()
    return re.sub("@([A-Z]+)@", lambda match: values[match[1]], spec)


def dist(wanted: str) -> list[Path]:
    """Wheel, with its bill of materials, and sdist, checked by twine."""
    folder = workplace("dist")
    tree = folder / f"dbbasic_queue-{wanted}"
    copy_source(tree)
    run([sys.executable, "-m", "build", "--outdir", str(folder / "made"), str(tree)], folder)
    (sdist,) = (folder / "made").glob("*.tar.gz")
    archive(files_in(sdist), sdist)
    (wheel,) = (folder / "made").glob("*.whl")
    sbom.into_wheel(wheel, source_date())
    made = sorted((folder / "made").iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, made)], folder, loud=True)
    return made


# --- Steps ----------------------------------------------------------------------------------------


def workplace(name: str) -> Path:
    """An empty folder to build in, of the same name each time: some tools write it down."""
    return emptied(SOURCE / "build" / name)


def emptied(folder: Path) -> Path:
    """The folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def copy_source(target: Path) -> None:
    """Copy the source with plain modes and the source's date."""
    for path in tracked():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / path, copy)
        os.utime(copy, (source_date(), source_date()))


def tracked() -> Iterator[Path]:
    """The source's files, relative to it."""
    if (SOURCE / ".git").exists():
        names = run(["git", "ls-files", "-z"], SOURCE).split("\0")
        yield from (Path(name) for name in names if (SOURCE / name).is_file())
        return
    for path in sorted(SOURCE.rglob("*")):
        inner = path.relative_to(SOURCE)
        if path.is_file() and not LEFT_OUT & set(inner.parts):
            yield inner


def vendor(folder: Path) -> Path:
    """Fetch the wheel of dbbasic-tsv, whose hash must be the one that vendor.txt says."""
    wanted = str(SOURCE / "packaging/vendor.txt")
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    run([*pip(), "download", *options, "-d", str(folder), "-r", wanted], SOURCE)
    (wheel,) = folder.glob("dbbasic_tsv-*.whl")
    return wheel


def pip() -> list[str]:
    """The pip of the environment that runs this."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def files_below(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their path from the folder's own name on."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in paths}


def files_in(archived: Path) -> dict[str, bytes]:
    """The files of a .tar.gz, by their path."""
    found = {}
    with tarfile.open(archived) as tar:
        for entry in tar:
            if stream := tar.extractfile(entry):
                found[entry.name] = stream.read()
    return found


def archive(files: dict[str, bytes], target: Path) -> None:
    """A .tar.gz that depends on nothing but names, contents and the source's date."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mtime = source_date()
            entry.mode = 0o644
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(content))
    target.write_bytes(gzip.compress(plain.getvalue(), mtime=source_date()))


def need(packages: Sequence[str]) -> None:
    """See that the Debian packages are there: installed for root, named to another user."""
    if not shutil.which("dpkg-query"):
        return  # another system has its own names for them; the build says what it lacks
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *packages],
        capture_output=True,
        text=True,
    )
    there = {line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" installed")}
    missing = [name for name in packages if name not in there]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        sys.exit(f"this takes some packages more; install them: sudo {' '.join(command)}")
    run(["apt-get", "update", "-qq"], SOURCE)
    run(command, SOURCE)


def run(command: Sequence[str], folder: Path, *, loud: bool = False) -> str:
    """Run a command and return what it printed; what went wrong is shown in full."""
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        said.seek(0)
        text = said.read()
    if done.returncode:
        sys.stderr.write(text)
    elif loud:
        sys.stdout.write("".join(text.splitlines(keepends=True)[-3:]))
    done.check_returncode()
    return text


if __name__ == "__main__":
    main()
