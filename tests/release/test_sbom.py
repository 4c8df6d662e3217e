"""The bill of materials is CycloneDX, names what pyproject.toml does, and is in what is built."""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sbom

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EPOCH = 1_795_491_328


@pytest.mark.parametrize("bundled", [False, True], ids=["wheel", "deb-rpm"])
def test_it_keeps_the_schema(bundled: bool) -> None:
    """CycloneDX's own schema finds nothing wrong; and finds what is wrong."""
    text = sbom.text(EPOCH, bundled=bundled)
    from cyclonedx.schema import SchemaVersion  # a second, in each process of the tests
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"book"')) is not None
    assert text == sbom.text(EPOCH, bundled=bundled)


def components(bundled: bool) -> dict[str, dict[str, Any]]:
    """The components of a document, by their names."""
    found = json.loads(sbom.text(EPOCH, bundled=bundled))["components"]
    return {each["name"]: each for each in found}


def test_it_names_what_is_needed() -> None:
    """Each requirement of the project is in it, an extra's as optional, with the versions."""
    found = components(bundled=False)
    for requirement in PROJECT["dependencies"]:
        name = requirement.partition(">")[0]
        assert found[name]["scope"] == "required"
        assert found[name]["properties"][0]["value"] in requirement
        assert found[name]["licenses"]
    assert found["rq"]["scope"] == "optional"
    assert {"name": "dbq:extra", "value": "redis"} in found["rq"]["properties"]
    assert not {"pytest", "ruff", "mkdocs", "huey"} & set(found)


def test_a_package_says_what_it_brings_along() -> None:
    """The version of dbbasic-tsv in a .deb and an RPM, and the hash of its wheel."""
    found = components(bundled=True)
    assert set(found) == {requirement.partition(">")[0] for requirement in PROJECT["dependencies"]}
    pinned = (ROOT / "packaging/vendor.txt").read_text()
    (digest,) = found["dbbasic-tsv"]["hashes"]
    assert f"dbbasic-tsv=={found['dbbasic-tsv']['version']} --hash=sha256:{digest['content']}" in (
        pinned
    )


def test_it_is_put_into_a_wheel(tmp_path: Path) -> None:
    """Where PEP 770 wants it, and in RECORD with its hash; the rest stays as it is."""
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a/__init__.py", "x = 1\n")
        archive.writestr("a-1.dist-info/RECORD", "a/__init__.py,,\na-1.dist-info/RECORD,,\n")
    sbom.into_wheel(wheel, EPOCH)
    first = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert archive.read("a/__init__.py") == b"x = 1\n"
        path = f"a-1.dist-info/sboms/{sbom.NAME}"
        content = archive.read(path)
        record = archive.read("a-1.dist-info/RECORD").decode()
    assert content.decode() == sbom.text(EPOCH, bundled=False)
    hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    assert record.splitlines()[-1] == f"{path},sha256={hashed},{len(content)}"
    assert first.count(b"a-1.dist-info/RECORD") == 2  # one entry, and its place in the index
