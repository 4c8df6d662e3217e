"""Debian 13's own Valkey on a system that has none, as Debian 12: for `make conformance`.

apt fetches the package and what it needs, checked by Debian's keys, with a state of its own; they
are unpacked below `.cache` and nothing is installed. The server runs with its own C library.

    python tests/helpers/valkey.py    # makes .cache/valkey/valkey-server
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import CHECKOUT, RELEASES, debian_mirror

PACKAGE = "valkey-server"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
FOLDER = CHECKOUT / ".cache" / "valkey"
START = """#!/bin/sh
# Made by tests/helpers/valkey.py: Debian 13's server, with the libraries of its release.
exec {loader} --library-path {libraries} {root}/usr/bin/{package} "$@"
"""


def make(folder: Path) -> None:
    """Fetch the server, and put a program that starts it into `folder`."""
    mirror = debian_mirror()
    if mirror is None or not Path(KEYS).exists():
        raise SystemExit(f"{PACKAGE}: cannot be fetched; this takes Debian's apt and its keys")
    with tempfile.TemporaryDirectory(prefix="dbq-valkey-") as scratch:
        state = Path(scratch)
        for name in ("etc", "state/lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "state/status").touch()
        source = f"deb [signed-by={KEYS}] {mirror} {RELEASES['13'].codename} main\n"
        (state / "etc/sources.list").write_text(source)
        options = {
            "Dir::Etc::sourcelist": state / "etc/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": state / "state",
            "Dir::State::status": state / "state/status",
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-q"]
        for name, value in options.items():
            apt += ["-o", f"{name}={value}"]
        subprocess.run([*apt, "update"], check=True)
        fetch = ["-y", "--no-install-recommends", "--download-only", "install", PACKAGE]
        subprocess.run([*apt, *fetch], check=True)
        root = folder.with_suffix(f".partial-{os.getpid()}")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for package in sorted((state / "cache/archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        (loader, *_) = sorted(root.glob("usr/lib*/ld-linux*"))
        (libraries,) = root.glob("usr/lib/*-linux-gnu")
        program = root / PACKAGE
        program.write_text(
            START.format(
                root=folder,
                package=PACKAGE,
                loader=folder / loader.relative_to(root),
                libraries=folder / libraries.relative_to(root),
            )
        )
        program.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        root.rename(folder)


if __name__ == "__main__":
    if not (FOLDER / PACKAGE).exists():
        make(FOLDER)
    version = subprocess.run([FOLDER / PACKAGE, "--version"], capture_output=True, text=True)
    sys.exit(None if version.returncode == 0 else f"{FOLDER / PACKAGE}: {version.stderr}")
