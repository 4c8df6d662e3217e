"""`make release`: before the build, that this can be a release; after it, what has been built.

It publishes nothing. What a person has to do is said at the end: a version number and the keys
that sign are a person's.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import sbom
from packages import DIST, SOURCE, need, project, source_date

SUMS = "SHA256SUMS"
CHECKERS = ("lintian", "rpmlint")  # which `make deb` and `make rpm` use where they are


def main() -> None:
    """Check what the argument says, and say what is wrong."""
    steps: dict[str, Callable[[], None]] = {"before": before, "after": after}
    parser = argparse.ArgumentParser(description="Check a release.")
    parser.add_argument("when", choices=steps)
    steps[parser.parse_args().when]()


def before() -> None:
    """See that what is built is what is committed, and install what checks it."""
    need(CHECKERS)
    if faults := [*unclean(), *versions()]:
        sys.exit("not a release:\n  " + "\n  ".join(faults))


def unclean() -> list[str]:
    """What is in the checkout but not in git, which builds of others would lack."""
    if not (SOURCE / ".git").exists():
        return []
    listed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    return [f"not committed: {line[3:]}" for line in listed.stdout.splitlines()]


def versions() -> list[str]:
    """Where another version stands than in pyproject.toml."""
    version = project()["version"]
    places = {
        "dbbasic_queue/version.py": r'"(\d[^"]*)"',
        "packaging/debian/changelog": r"\((.*?)\)",
        "CHANGELOG.md": r"(?m)^## \[(?!Unreleased)(.*?)\]",
    }
    faults = []
    for name, pattern in places.items():
        found = re.search(pattern, (SOURCE / name).read_text())
        if found is None or found[1] != version:
            said = found[1] if found else "none"
            faults.append(f"{name} has version {said}, pyproject.toml {version}")
    return faults


def after() -> None:
    """Check that all is in dist/, write its sums, and say what is left to do."""
    built = files(DIST)
    if faults := missing(built):
        sys.exit("dist/ is not whole:\n  " + "\n  ".join(faults))
    materials = DIST / sbom.NAME
    materials.write_text(sbom.text(source_date(), bundled=False))
    built = sorted([*built, materials])
    (DIST / SUMS).write_text("".join(f"{digest(path)}  {path.name}\n" for path in built))
    print(f"dist/ has {len(built)} files, and their sums in {SUMS}:")
    for path in built:
        print(f"  {path.stat().st_size:>9,}  {path.name}")
    print("\nTo do by hand:")
    for number, step in enumerate(steps_left(), 1):
        print(f"  {number}. {step}")


def files(folder: Path) -> list[Path]:
    """What `make deb rpm dist` has left in a folder."""
    kinds = ("*.whl", "*.tar.gz", "*.deb", "*.rpm")
    return sorted(path for kind in kinds for path in folder.glob(kind))


def missing(built: list[Path]) -> list[str]:
    """What a release lacks: one file of each kind, of this version, with what belongs into it."""
    version = project()["version"]
    faults = []
    for kind in (".whl", ".tar.gz", ".deb", ".rpm"):
        found = [path for path in built if path.name.endswith(kind)]
        if len(found) != 1 or version not in found[0].name:
            faults.append(f"one *{kind} of version {version} is wanted, not {len(found)}")
        elif kind == ".whl":
            names = zipfile.ZipFile(found[0]).namelist()
            faults += [f"{found[0].name} lacks {name}" for name in _lacking(names)]
        elif kind == ".tar.gz":
            with tarfile.open(found[0]) as archive:
                inside = {name.partition("/")[2] for name in archive.getnames()}
            wanted = ("CHANGELOG.md", "LICENSE", "Makefile", "SECURITY.md", "pyproject.toml")
            faults += [f"{found[0].name} lacks {name}" for name in wanted if name not in inside]
    return faults


def _lacking(names: list[str]) -> list[str]:
    ends = (f".dist-info/sboms/{sbom.NAME}", ".dist-info/licenses/LICENSE", "/py.typed")
    return [end for end in ends if not any(name.endswith(end) for name in names)]


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def steps_left() -> list[str]:
    """What a person has to do before and after this is public."""
    version = project()["version"]
    text = (SOURCE / "CHANGELOG.md").read_text()
    unreleased = re.search(r"(?ms)^## \[Unreleased\]\n(.*?)^## \[", text)
    left = []
    if unreleased and unreleased[1].strip():
        left.append(
            "CHANGELOG.md has changes under [Unreleased]: give them a version and a date, write"
            " it into pyproject.toml, dbbasic_queue/version.py and packaging/debian/changelog,"
            " commit, and run make release again."
        )
    return [
        *left,
        "Run what this leaves out, if the last commits touched it: make torture, make conformance,"
        " make matrix, make mutants, make e2e, make e2e DEBIAN=13, make test-all.",
        f"Sign: gpg --detach-sign --armor dist/{SUMS}; git tag --sign v{version}",
        "Upload the wheel and the sdist: .venv/bin/twine upload dist/*.whl dist/*.tar.gz",
        f"Push the tag, and put these files to the release of v{version}: git push origin"
        f" v{version}",
        "Put dist/site, where `make docs` has made it, to where the documentation is read.",
        "From another machine: sha256sum --check SHA256SUMS, pip install, apt-get install ./*.deb.",
    ]


if __name__ == "__main__":
    main()
