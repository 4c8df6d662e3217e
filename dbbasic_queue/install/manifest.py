"""The record of what was installed: one JSON file for each name and target.

A manifest makes removal exact, also when the config is renamed or gone, tells our own text from
that of others by its hash, and says what was scheduled, so that no installed text is read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import InstallError
from ..support.files import NewFile, refusing, replace
from ..support.opening import user_name
from .site import Site
from .target import Entry

_LARGEST = 1 << 20
PACKAGED = "systemd (units of a package)"
ENABLED_TIMERS = Path("/etc/systemd/system/timers.target.wants")
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Manifest:
    """What is installed under one name by one target.

    `hashes` holds for each path the SHA-256 of the text we wrote: one, or two while an apply is
    under way, so that a crash in between does not make our own text look like that of others.
    `entries` is what the files schedule, `leaves` what the entries write for others; manifests of
    version 2.0.0 say neither.
    """

    name: str
    kind: str
    config: str
    hashes: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    leaves: tuple[Path, ...] = ()

    def to_json(self) -> bytes:
        """The manifest as a file: sorted and indented, so that people can read and compare it."""
        files = {str(path): list(hashes) for path, hashes in sorted(self.hashes.items())}
        record = {
            "name": self.name,
            "kind": self.kind,
            "config": self.config,
            "files": files,
            "entries": [asdict(entry) for entry in self.entries],
            "leaves": [str(path) for path in self.leaves],
        }
        return json.dumps(record, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read one back. Raises `ValueError` for anything that `to_json` would not write."""
        record = json.loads(text)
        if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
            raise ValueError("not a manifest")
        words = [record.get(key) for key in ("name", "kind", "config")]
        if not all(isinstance(word, str) for word in words):
            raise ValueError("name, kind and config must be text")
        hashes = {Path(path): tuple(map(str, seen)) for path, seen in record["files"].items()}
        entries = tuple(map(_entry, record.get("entries", [])))
        leaves = tuple(Path(str(path)) for path in record.get("leaves", []))
        if not all(path.is_absolute() for path in (*hashes, *leaves)):
            raise ValueError("paths must be absolute")
        return cls(record["name"], record["kind"], record["config"], hashes, entries, leaves)


def _entry(record: object) -> Entry:
    try:
        entry = Entry(**record)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"an entry must have a label and a schedule: {error}") from None
    if not all(isinstance(word, str) for word in (entry.label, entry.schedule, entry.known_as)):
        raise ValueError("label and schedule of an entry must be text")
    return entry


def digest(text: bytes) -> str:
    """The hash by which a manifest knows a text: SHA-256 in hex."""
    return hashlib.sha256(text).hexdigest()


def manifest_path(site: Site, name: str, kind: str) -> Path:
    """Where the manifest is kept. Raises `InstallError` if `name` is not a config's name."""
    if not NAME.fullmatch(name):
        raise InstallError(
            f"{name!r} is not a name: it takes a-z, 0-9 and -, begins with a letter, 32 at most"
        )
    return site.installed / f"{name}.{kind}.json"


def load_manifest(site: Site, name: str, kind: str) -> Manifest | None:
    """The manifest, or None if nothing is installed. Raises `InstallError` if it is unreadable.

    Root believes only its own manifests: they say which files to delete.
    """
    path = manifest_path(site, name, kind)
    try:
        # Root also looks at users' manifests: one that is a pipe must not make it wait.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            owner = os.fstat(stream.fileno()).st_uid
            text = stream.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InstallError(f"{path}: cannot read the manifest: {error.strerror}") from error
    if site.live and site.user is None and os.geteuid() == 0 and owner != 0:
        raise InstallError(f"{path}: the manifest is owned by uid {owner}, not by root")
    try:
        return Manifest.from_json(text)
    except ValueError as error:
        raise InstallError(
            f"{path}: the manifest is damaged ({error}). "
            "Move it away, then apply again with --force"
        ) from error


def save_manifest(site: Site, manifest: Manifest) -> None:
    """Write the manifest; nothing is written if it is there as it should be."""
    path = manifest_path(site, manifest.name, manifest.kind)
    text = manifest.to_json()
    with refusing(path, "cannot write the manifest", InstallError):
        if not path.exists() or path.read_bytes() != text:
            replace(NewFile(path, text, 0o644))


def delete_manifest(site: Site, name: str, kind: str) -> None:
    """Forget an installation. No error if there is no manifest."""
    path = manifest_path(site, name, kind)
    with refusing(path, "cannot delete the manifest", InstallError):
        path.unlink(missing_ok=True)


def manifests(site: Site) -> list[Manifest]:
    """All manifests of a site, by name; those that cannot be read are skipped."""
    found = []
    try:
        names = sorted(os.listdir(site.installed))
    except OSError:
        return []
    for entry in names:
        name, _, rest = entry.partition(".")
        kind = rest.removesuffix(".json")
        if kind == rest or not NAME.fullmatch(name):
            continue
        with contextlib.suppress(InstallError):
            manifest = load_manifest(site, name, kind)
            found += [manifest] if manifest else []
    return found


Place = tuple[Site, str]  # whose, and the target's kind


def schedulers(name: str, sites: Iterable[Site]) -> list[Place]:
    """Where a name is scheduled now.

    What was taken out by hand does not count, though its manifest is still there.

    Args:
        name: the config's name.
        sites: where to look: the system, and users who may have installed it too.
    """
    places = []
    for site in dict.fromkeys(sites):
        kinds = [
            each.kind
            for each in manifests(site)
            if each.name == name and each.kind != "logrotate" and _is_there(site, each)
        ]
        if "systemd" not in kinds and _packaged_units_enabled(site, name):
            kinds.append(PACKAGED)
        places += [(site, kind) for kind in kinds]
    return places


def double_scheduled(name: str, sites: Iterable[Site]) -> list[str]:
    """Sentences that say which schedulers run the same name; empty if at most one does.

    Args: see `schedulers`.

    Example:
        double_scheduled("myapp", [Site(), Site(user="zoe")])
        # ['myapp is scheduled 2 times: by cron, by systemd. Each starts every run; remove all
        #   but one: dbq-install-cron --remove --name myapp --system, …']
    """
    places = schedulers(name, sites)
    if len(places) < 2:
        return []
    return [
        f"{name} is scheduled {len(places)} times: {called(places)}. Each starts every run; "
        f"remove all but one: {removals(name, places)}"
    ]


def called(places: Iterable[Place]) -> str:
    """The schedulers for a message: "by cron, by systemd-user of zoe"."""
    return ", ".join(
        f"by {kind}" + (f" of {site.user}" if site.user else "") for site, kind in places
    )


def removals(name: str, places: Iterable[Place]) -> str:
    """The command lines that remove a name from these places."""
    return ", ".join(removal_command(site, name, kind) for site, kind in places)


def _is_there(site: Site, manifest: Manifest) -> bool:
    """Whether something is left of what the manifest lists."""
    if manifest.kind == "cron-user":
        return any(_is_in_crontab(path) for path in manifest.hashes)
    return any(os.path.lexists(site.below(path)) for path in manifest.hashes)


def _is_in_crontab(path: Path) -> bool:
    """Whether a user's crontab has the block that this path stands for (see cron/crontab.py).

    Only root and crontab(1) can look into the spool; what cannot be seen counts as there.
    """
    user, _, name = path.name.rpartition(":")
    try:
        text = (path.parent / user).read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return f"# BEGIN dbbasic-queue {name}\n".encode() in text


def _packaged_units_enabled(site: Site, name: str) -> bool:
    """Whether the timer is enabled that a package of the system brings: no manifest lists it."""
    timer = ENABLED_TIMERS / f"dbq-{name}-worker.timer"
    return site.user is None and site.below(timer).is_symlink()


def likely_sites(user: str | None = None, root: Path = Path("/")) -> list[Site]:
    """Where a name may be installed: by the system, by the caller, by the worker's user.

    Args:
        user: `[worker].user`; one that this machine does not know is left out.
        root: "/" for the running system.

    Example:
        double_scheduled(config.name, likely_sites(config.worker.user))
    """
    caller = user_name(os.geteuid())
    known = {entry.pw_name for entry in pwd.getpwall()}
    return [Site(root=root), *(Site(name, root) for name in (caller, user) if name in known)]


def removal_command(site: Site, name: str, kind: str) -> str:
    """The command line that removes one installation."""
    if kind == PACKAGED:
        starters = " ".join(f"dbq-{name}-{each}" for each in ("worker.path", "worker.timer"))
        return f"systemctl disable --now {starters} dbq-{name}-prune.timer dbq-{name}-health.timer"
    tool = "dbq-install-" + kind.removesuffix("-user")
    whose = f"--user {site.user}" if site.user else "--system"
    root = "" if site.live else f" --root {site.root}"
    return f"{tool} --remove --name {name} {whose}{root}"
