"""Lay out all that a package of the operating system holds, below a folder.

    python3 packaging/tools/stage.py --wheel dbbasic_tsv-1.0.2-py3-none-any.whl DESTDIR

Both debian/rules and the RPM's spec call this, so that both packages hold the same. It needs no
network, and no root: owners are the package manager's business.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True
SOURCE = Path(__file__).resolve().parents[2]
PRIVATE = Path("/usr/lib/dbbasic-queue")
CONFIG = Path("/etc/dbbasic-queue/dbq.toml")
UNITS = Path("/usr/lib/systemd/system")
PLUGINS = Path("/usr/lib/nagios/plugins")
DOC = Path("/usr/share/doc/dbbasic-queue")
SCRIPT = """\
#!/usr/bin/python3
import sys

sys.path[0] = "{private}"
from {module} import {function}

sys.exit({function}())
"""
UNIT = """\
{about}
#
# As packaged, for {config} as it is shipped. Once that is changed in more than
# [worker].handlers, have what it says put into force:
#     dbq-install-systemd --config {config}
# writes units to /etc/systemd/system, which take the place of the packaged ones.
# What only this machine needs goes into a drop-in: systemctl edit {unit}

"""
ROTATION = b"""\
# The log of the system's job queue, [log] in /etc/dbbasic-queue/dbq.toml.
#
# It is renamed, not truncated: no line is lost. A worker that has it open goes on writing to the
# renamed file, hence delaycompress; the next one opens the new file. No worker needs a signal.

"""


def main() -> None:
    """Read the arguments and lay everything out."""
    parser = argparse.ArgumentParser(description="Lay out what an OS package holds below DESTDIR.")
    parser.add_argument("--wheel", required=True, type=Path, help="the one of dbbasic-tsv")
    parser.add_argument("destdir", type=Path)
    arguments = parser.parse_args()
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdigit():
        parser.error("SOURCE_DATE_EPOCH must be set: man pages bear its date")
    os.umask(0o022)
    stage(arguments.destdir.resolve(), arguments.wheel, int(epoch))


def stage(root: Path, wheel: Path, epoch: int) -> None:
    """Lay everything out below `root`; `epoch` is the date of the man pages (Unix seconds)."""
    library(root, wheel)
    # What follows is made by the library that is laid out, not by one that is installed here.
    sys.path.insert(0, str(below(root, PRIVATE)))
    import completions
    import manpages
    import sbom
    from parsers import project

    scripts(root, project()["scripts"])
    files(root)
    rendered(root)
    manpages.write(below(root, Path("/usr/share/man")), epoch)
    completions.write(below(root, Path("/usr/share")))
    put(below(root, DOC / sbom.NAME), sbom.text(epoch, bundled=True).encode())


def below(root: Path, path: Path) -> Path:
    """Where an absolute path lies below `root`."""
    return root / path.relative_to("/")


def library(root: Path, wheel: Path) -> None:
    """The library, its templates and dbbasic-tsv, in the private folder.

    Modules of dbbasic-tsv that can also be run lose the line that says by which interpreter.
    """
    private = below(root, PRIVATE)
    copy_tree(SOURCE / "dbbasic_queue", private / "dbbasic_queue")
    templates = private / "dbbasic_queue" / "templates"
    for folder in ("cron", "systemd", "views", "packaging/logrotate"):
        copy_tree(SOURCE / folder, templates / folder)
    copy(SOURCE / "packaging/private/__main__.py", private / "__main__.py")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            # Its licence stands in debian/copyright and in the folder of the RPM's licences.
            if name.startswith("dbbasic/") and name.endswith(".py"):
                put(private / name, re.sub(rb"\A#!.*\n", b"", archive.read(name)))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder without what running Python leaves in it."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            copy(path, target / path.relative_to(source))


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, whatever its mode."""
    put(target, source.read_bytes())


def put(target: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file and the folders above it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def scripts(root: Path, entries: dict[str, str]) -> None:
    """The commands, of which check_dbq is a link to dbq-health, also where Nagios looks."""
    for name, entry in entries.items():
        module, _, function = entry.partition(":")
        if name != "check_dbq":
            text = SCRIPT.format(private=PRIVATE, module=module, function=function)
            put(below(root, Path("/usr/bin") / name), text.encode(), 0o755)
    link(root, Path("/usr/bin/check_dbq"), Path("/usr/bin/dbq-health"))
    link(root, PLUGINS / "check_dbq", Path("/usr/bin/dbq-health"))


def link(root: Path, path: Path, target: Path) -> None:
    """A relative symbolic link."""
    real = below(root, path)
    real.parent.mkdir(parents=True, exist_ok=True)
    real.symlink_to(os.path.relpath(target, path.parent))


def files(root: Path) -> None:
    """The config, the user, the folders, and what the documentation has of examples."""
    packaging = SOURCE / "packaging"
    copy(packaging / "dbq.toml", below(root, CONFIG))
    for kind in ("sysusers", "tmpfiles"):
        path = Path(f"/usr/lib/{kind}.d/dbbasic-queue.conf")
        copy(packaging / f"{kind}.conf", below(root, path))
    for folder in ("prometheus", "nagios"):
        if (packaging / folder).is_dir():
            copy_tree(packaging / folder, below(root, DOC) / "examples" / folder)
    copy_tree(SOURCE / "examples", below(root, DOC) / "examples")
    copy_tree(SOURCE / "docs", below(root, DOC))
    for name in ("README.md", "CHANGELOG.md"):
        copy(SOURCE / name, below(root, DOC) / name)


def rendered(root: Path) -> None:
    """The units and logrotate's rules of the config as it is shipped."""
    from dbbasic_queue.config import sections as configs
    from dbbasic_queue.install.logrotate import LogrotateTarget
    from dbbasic_queue.install.site import Site
    from dbbasic_queue.systemd.units import units

    config = configs.parse((SOURCE / "packaging/dbq.toml").read_text(), CONFIG)
    for name, text in units(config).items():
        text = text.replace(str(below(root, PRIVATE)), str(PRIVATE))
        put(below(root, UNITS / name), packaged(name, text).encode())
    # tmpfiles.d makes the log's folder root's: logrotate stays root in it.
    rules = LogrotateTarget(Site(root=root)).rules(config, None)
    put(below(root, Path("/etc/logrotate.d/dbbasic-queue")), ROTATION + body_of(rules))


def packaged(unit: str, text: str) -> str:
    """A unit with a header that says where this one comes from."""
    about = text.partition("\n")[0]
    return UNIT.format(about=about, config=CONFIG, unit=unit) + body_of(text.encode()).decode()


def body_of(text: bytes) -> bytes:
    """A rendered file without the comment at its top."""
    return re.sub(rb"\A(?:#.*\n|\n)+", b"", text)


if __name__ == "__main__":
    main()
