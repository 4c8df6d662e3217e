"""The software bill of materials: what is in a package, and what it needs, as CycloneDX has it.

The wheel has it where PEP 770 wants it, below `.dist-info/sboms`; the packages of the operating
system below /usr/share/doc. It is the same bytes each time: its serial number is made of what it
is of, its date is that of the source. (https://cyclonedx.org/docs/1.6/json)
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any, Final

from parsers import SOURCE, project

NAME: Final = "dbbasic-queue.cdx.json"
LICENSES: Final = {  # of what is needed, as the projects name them (SPDX)
    "dbbasic-tsv": "MIT",
    "jinja2": "BSD-3-Clause",
    "python-crontab": "LGPL-3.0-or-later",
}

Table = dict[str, Any]


def text(epoch: int, *, bundled: bool) -> str:
    """The document, of the date `epoch` (Unix seconds).

    `bundled`: of a package of the operating system, which has dbbasic-tsv in it, and nothing of
    the extras.
    """
    about = project()
    own = _purl(about["name"], about["version"])
    needed = [_component(requirement, None, bundled) for requirement in about["dependencies"]]
    if not bundled:
        there = {each["name"] for each in needed}
        for extra, requirements in about["optional-dependencies"].items():
            if extra not in ("test", "lint", "docs", "bench"):  # which are for a checkout
                found = (_component(each, extra, bundled) for each in requirements)
                needed += [each for each in found if each["name"] not in there]
    kind = "deb-rpm" if bundled else "wheel"
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{own}#{kind}-{epoch}')}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": about["name"],
                "version": about["version"],
                "description": about["description"],
                "licenses": [{"license": {"id": about["license"]}}],
                "purl": own,
                "externalReferences": [
                    {"type": "vcs", "url": about["urls"]["Source"]},
                    {"type": "issue-tracker", "url": about["urls"]["Issues"]},
                ],
            },
        },
        "components": needed,
        "dependencies": [
            {"ref": own, "dependsOn": [each["bom-ref"] for each in needed]},
            *({"ref": each["bom-ref"]} for each in needed),
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(requirement: str, extra: str | None, bundled: bool) -> Table:
    """One project that is needed; what it may be is a property, where it is not in the package."""
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?\s*([<>=!~][^;]*)?(?:;.*)?", requirement)
    assert found is not None, requirement
    name, versions = found[1].lower(), (found[2] or "").strip()
    component: Table = {"type": "library", "name": name}
    properties = [{"name": "dbq:requires", "value": versions or "any"}]
    if name == "dbbasic-tsv" and bundled:
        version, digest = _vendored()
        component |= {"version": version, "hashes": [{"alg": "SHA-256", "content": digest}]}
    if extra:
        properties.append({"name": "dbq:extra", "value": extra})
    if name in LICENSES:
        component["licenses"] = [{"license": {"id": LICENSES[name]}}]
    purl = _purl(name, component.get("version"))
    component |= {"scope": "optional" if extra else "required", "purl": purl, "bom-ref": purl}
    return component | {"properties": properties}


def _vendored() -> tuple[str, str]:
    """The version and the SHA-256 of the wheel that packages bring along."""
    wanted = (SOURCE / "packaging/vendor.txt").read_text()
    found = re.search(r"^dbbasic-tsv==(\S+) --hash=sha256:(\w+)$", wanted, re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def _purl(name: str, version: str | None) -> str:
    return f"pkg:pypi/{name}" + (f"@{version}" if version else "")


def into_wheel(wheel: Path, epoch: int) -> None:
    """Put the document into a wheel, and into its RECORD; all else stays as it is."""
    with zipfile.ZipFile(wheel) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    (record,) = (info.filename for info, _ in entries if info.filename.endswith("/RECORD"))
    path = f"{record.removesuffix('RECORD')}sboms/{NAME}"
    content = text(epoch, bundled=False).encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    new = zipfile.ZipInfo(path, time.gmtime(epoch)[:6])
    new.external_attr = 0o644 << 16
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in entries:
            if info.filename == record:
                archive.writestr(new, content, zipfile.ZIP_DEFLATED)
                data += f"{path},sha256={digest},{len(content)}\n".encode()
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
