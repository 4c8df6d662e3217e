"""`make release` refuses what is not one, and says what is left to do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import packages
import pytest
import release
import sbom

VERSION = packages.project()["version"]


def built(folder: Path, *, materials: bool = True) -> None:
    """What stands for the files of `make deb rpm dist`."""
    info = f"dbbasic_queue-{VERSION}.dist-info"
    with zipfile.ZipFile(folder / f"dbbasic_queue-{VERSION}-py3-none-any.whl", "w") as wheel:
        names = ["dbbasic_queue/py.typed", f"{info}/licenses/LICENSE"]
        for name in [*names, f"{info}/sboms/{sbom.NAME}"] if materials else names:
            wheel.writestr(name, "")
    with tarfile.open(folder / f"dbbasic_queue-{VERSION}.tar.gz", "w:gz") as sdist:
        for name in ("CHANGELOG.md", "LICENSE", "Makefile", "SECURITY.md", "pyproject.toml"):
            sdist.add(packages.SOURCE / name, f"dbbasic_queue-{VERSION}/{name}")
    (folder / f"dbbasic-queue_{VERSION}_all.deb").write_bytes(b"deb")
    (folder / f"dbbasic-queue-{VERSION}-1.noarch.rpm").write_bytes(b"rpm")


def test_the_version_is_everywhere_the_same() -> None:
    """Nothing here names another version than pyproject.toml."""
    assert release.versions() == []


def test_what_is_built_is_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five files with their sums, which sha256sum agrees with; then the steps of a person."""
    monkeypatch.setattr(release, "DIST", tmp_path)
    built(tmp_path)
    release.after()
    said = capsys.readouterr().out
    assert "dist/ has 5 files" in said
    assert f"git tag --sign v{VERSION}" in said
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 5
    for line in lines:
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path)
    assert done.returncode == 0


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was not built, a wheel without its bill of materials."""
    monkeypatch.setattr(release, "DIST", tmp_path)
    built(tmp_path, materials=False)
    (deb,) = tmp_path.glob("*.deb")
    deb.unlink()
    with pytest.raises(SystemExit) as refused:
        release.after()
    assert f"one *.deb of version {VERSION} is wanted, not 0" in str(refused.value)
    assert f"lacks .dist-info/sboms/{sbom.NAME}" in str(refused.value)
    assert not (tmp_path / "SHA256SUMS").exists()


def test_what_is_not_committed_is_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would build something else from what is committed."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.setattr(release, "SOURCE", tmp_path)
    assert release.unclean() == []
    (tmp_path / "new.py").touch()
    assert release.unclean() == ["not committed: new.py"]


def test_changes_without_a_version_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands under [Unreleased] wants a version of its own before it is uploaded."""
    monkeypatch.setattr(release, "SOURCE", tmp_path)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## [Unreleased]\n- A change.\n\n## [2.0.0] - 2026-11-24\n")
    assert "under [Unreleased]" in release.steps_left()[0]
    changelog.write_text("## [Unreleased]\n\n## [2.0.0] - 2026-11-24\n")
    assert "[Unreleased]" not in release.steps_left()[0]


def test_a_mistyped_step_is_refused() -> None:
    """With the steps that there are."""
    tool = packages.SOURCE / "packaging/tools/release.py"
    done = subprocess.run([sys.executable, tool, "befor"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "before" in done.stderr
