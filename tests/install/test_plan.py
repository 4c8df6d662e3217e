"""Plan, apply, remove: exact, idempotent, and safe from a crash at any step."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from parties import READER, as_user, needs_root, open_place

from dbbasic_queue.errors import InstallError
from dbbasic_queue.install import plan as plans
from dbbasic_queue.install import site as site_module
from dbbasic_queue.install.manifest import (
    double_scheduled,
    likely_sites,
    load_manifest,
    manifest_path,
    schedulers,
)
from dbbasic_queue.install.plan import (
    apply,
    beside_diff,
    diff,
    former_names,
    plan_apply,
    plan_remove,
    remove,
)
from dbbasic_queue.install.site import Site, Wanted
from dbbasic_queue.install.target import Action, Installation, Plan, Target
from dbbasic_queue.support import files
from dbbasic_queue.support.opening import Folder

INSTALLED = "var/lib/dbbasic-queue/installed"
ONE, TWO = Path("/etc/x/one"), Path("/etc/y/two")


class Live(Site):
    """A site below a folder that nevertheless counts as the running system."""

    live = property(lambda self: True)

    def below(self, path: Path) -> Path:
        return self.root / path.relative_to("/")


class Fake(Target):
    """A target whose config is the files themselves, and which notes what it was told."""

    def __init__(self, site: Site, kind: str = "fake") -> None:
        super().__init__(site)
        self.kind = kind
        self.problems: list[str] = []
        self.asleep: list[str] = []
        self.told: list[object] = []

    def render(self, config: SimpleNamespace) -> Installation:
        files = [Wanted(path, text, mode) for path, (text, mode) in config.files.items()]
        return Installation(tuple(files), leaves=config.metrics)

    def verify(self, wanted: Installation, config: SimpleNamespace) -> list[str]:
        return self.problems

    def inactive(self, wanted: Installation) -> list[str]:
        return self.asleep

    def deactivate(self, paths: list[Path]) -> None:
        self.told.append([(path, self.store.read(path) is not None) for path in paths])

    def activate(self, plan: Plan) -> None:
        self.told.append({c.path: c.action for c in plan.work})

    def traces(self, name: str) -> list[Path]:
        return [p for p in (ONE, TWO) if self.store.read(p)]


def make(name: str = "myapp", path: str = "/etc/myapp/dbq.toml", **files: str) -> SimpleNamespace:
    paths = {"one": ONE, "two": TWO}
    wanted = {paths[key]: (text.encode(), 0o644) for key, text in files.items()}
    return SimpleNamespace(
        name=name,
        path=Path(path),
        files=wanted,
        metrics=(),
        worker=SimpleNamespace(user=None),
        queue=SimpleNamespace(file=Path("/no/queue.tsv")),
    )


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder with inode, time of change and content."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        text = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_ino, status.st_mtime_ns, text)
    return found


def texts(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Fake:
    return Fake(Site(root=tmp_path))


@pytest.fixture
def live(tmp_path: Path) -> Fake:
    return Fake(Live(root=tmp_path))


def test_a_second_apply_writes_nothing(target: Fake, tmp_path: Path) -> None:
    """No file or folder gets a new inode, a new time or another byte."""
    apply(target, make(one="1", two="2"))
    before = tree(tmp_path)
    assert apply(target, make(one="1", two="2")).in_sync
    assert tree(tmp_path) == before


def test_only_what_changed_is_written(target: Fake, tmp_path: Path) -> None:
    """A change of one file leaves the other's inode and time alone."""
    apply(target, make(one="1", two="2"))
    two = (tmp_path / "etc/y/two").lstat()
    plan = apply(target, make(one="1b", two="2"))
    assert [(c.path, c.action) for c in plan.work] == [(ONE, Action.UPDATE)]
    after = (tmp_path / "etc/y/two").lstat()
    assert (two.st_ino, two.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_is_no_longer_wanted_is_deleted(target: Fake, tmp_path: Path) -> None:
    """A file that the config no longer asks for goes, and the manifest forgets it."""
    apply(target, make(one="1", two="2"))
    apply(target, make(one="1"))
    assert not (tmp_path / "etc/y/two").exists()
    manifest = load_manifest(target.site, "myapp", "fake")
    assert manifest is not None
    assert set(manifest.hashes) == {ONE}


def test_an_edited_file_is_refused_with_its_diff(target: Fake, tmp_path: Path) -> None:
    """An edit by hand is shown and kept; nothing else of the plan is carried out either."""
    apply(target, make(one="1\n", two="2\n"))
    (tmp_path / "etc/x/one").write_text("mine\n")
    before = tree(tmp_path)
    with pytest.raises(InstallError, match="/etc/x/one: changed by hand") as refusal:
        apply(target, make(one="1b\n", two="2b\n"))
    assert "-mine\n+1b\n" in refusal.value.patch
    with pytest.raises(InstallError, match="changed by hand"):
        remove(target, "myapp")
    assert tree(tmp_path) == before


def test_force_overwrites_an_edit_and_keeps_a_copy(target: Fake, tmp_path: Path) -> None:
    """What --force overwrites or deletes is in the backups folder."""
    apply(target, make(one="1", two="2"))
    for name in ("x/one", "y/two"):
        (tmp_path / "etc" / name).write_text("mine")
    apply(target, make(one="1"), force=True)
    assert texts(tmp_path)["etc/x/one"] == b"1"
    kept = {p.name: p.read_text() for p in target.site.backups.iterdir()}
    assert kept == {"etc-x-one": "mine", "etc-y-two": "mine"}


def test_a_foreign_file_in_the_way_is_not_overwritten(target: Fake, tmp_path: Path) -> None:
    """A file that is there before the first apply is not ours."""
    (tmp_path / "etc/x").mkdir(parents=True)
    (tmp_path / "etc/x/one").write_text("theirs")
    with pytest.raises(InstallError, match="not written by this installer"):
        apply(target, make(one="1"))
    assert texts(tmp_path) == {"etc/x/one": b"theirs"}


def test_a_file_that_is_right_already_is_adopted(target: Fake, tmp_path: Path) -> None:
    """A lost manifest is written anew without touching files that are as wanted."""
    apply(target, make(one="1"))
    before = texts(tmp_path)
    manifest_path(target.site, "myapp", "fake").unlink()
    plan = plan_apply(target, make(one="1"))
    assert (plan.work, plan.in_sync) == ((), False)
    apply(target, make(one="1"))
    assert texts(tmp_path) == before


def test_a_symbolic_link_in_place_of_a_file_counts_as_edited(target: Fake, tmp_path: Path) -> None:
    """A masked unit is a decision: the link stays, and so does what it points to."""
    apply(target, make(one="1"))
    one = tmp_path / "etc/x/one"
    one.unlink()
    one.symlink_to("/dev/null")
    with pytest.raises(InstallError, match="changed by hand") as refusal:
        apply(target, make(one="1"))
    assert "symbolic link to /dev/null" in refusal.value.patch
    apply(target, make(one="1"), force=True)
    assert not one.is_symlink()
    assert one.read_text() == "1"


def test_a_wrong_mode_is_repaired(target: Fake, tmp_path: Path) -> None:
    """The same text with another mode is written again; beside the diff stands why."""
    apply(target, make(one="1"))
    (tmp_path / "etc/x/one").chmod(0o666)
    plan = plan_apply(target, make(one="1"))
    assert diff(plan) == ""
    assert "mode 0666" in beside_diff(plan)[0]
    apply(target, make(one="1"))
    assert (tmp_path / "etc/x/one").stat().st_mode & 0o777 == 0o644


def test_removal_takes_exactly_what_was_installed(target: Fake, tmp_path: Path) -> None:
    """By name alone, twice without complaint, and neighbours stay."""
    (tmp_path / "etc/x").mkdir(parents=True)
    (tmp_path / "etc/x/neighbour").write_text("stays")
    apply(target, make(one="1", two="2"))
    apply(Fake(target.site, kind="logrotate"), make(two="2"))
    remove(Fake(target.site, kind="logrotate"), "myapp")
    remove(target, "myapp")
    assert texts(tmp_path) == {"etc/x/neighbour": b"stays"}
    assert remove(target, "myapp").in_sync
    assert not (tmp_path / "var/lib/dbbasic-queue").exists()


def test_a_deleted_file_is_made_again_and_no_trouble_to_remove(
    target: Fake, tmp_path: Path
) -> None:
    """A file that was deleted is not an edit: apply brings it back, removal does not miss it."""
    apply(target, make(one="1", two="2"))
    (tmp_path / "etc/x/one").unlink()
    assert [c.action for c in apply(target, make(one="1", two="2")).work] == [Action.CREATE]
    (tmp_path / "etc/x/one").unlink()
    remove(target, "myapp")
    assert texts(tmp_path) == {}


def test_files_of_a_lost_manifest_are_removed_by_force_only(target: Fake, tmp_path: Path) -> None:
    """Without a manifest nothing says that a file is ours: it takes --force, and a copy stays."""
    apply(target, make(one="1"))
    manifest_path(target.site, "myapp", "fake").unlink()
    with pytest.raises(InstallError, match="no manifest in"):
        remove(target, "myapp")
    assert [c.action for c in plan_remove(target, "myapp", force=True).work] == [Action.DELETE]
    remove(target, "myapp", force=True)
    assert texts(tmp_path) == {"var/lib/dbbasic-queue/backups/etc-x-one": b"1"}


def test_faults_are_told_before_anything_is_written(target: Fake, tmp_path: Path) -> None:
    """All that verify finds is in one error, and the disk is untouched."""
    target.problems = ["first", "second"]
    with pytest.raises(InstallError, match="first\nsecond"):
        apply(target, make(one="1"))
    assert list(tmp_path.iterdir()) == []


def test_a_namesake_from_another_config_is_refused(target: Fake, tmp_path: Path) -> None:
    """Two configs of one name do not overwrite each other in turns; a config may move."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dbq.toml").touch()
    apply(target, make(path="/a/dbq.toml", one="1"))
    with pytest.raises(InstallError, match=r"already installed from /a/dbq\.toml"):
        apply(target, make(path="/b/dbq.toml", one="2"))
    (tmp_path / "a/dbq.toml").unlink()
    assert apply(target, make(path="/b/dbq.toml", one="2")).work


def test_a_former_name_of_the_same_config_is_found(target: Fake) -> None:
    """A config that was renamed from old to new has left an installation behind."""
    apply(target, make("old", one="1"))
    assert former_names(make("new", two="2"), target) == ["old"]
    assert former_names(make("old", one="1"), target) == []


def test_double_scheduling_is_told_with_the_way_out(tmp_path: Path) -> None:
    """The same name under cron and systemd is one sentence with both removal commands."""
    site = Site(root=tmp_path)
    apply(Fake(site, "cron"), make(one="1"))
    apply(Fake(site, "logrotate"), make())
    assert double_scheduled("myapp", [site, site]) == []
    with pytest.raises(InstallError, match="scheduled by cron already"):
        apply(Fake(site, "systemd"), make(two="2"))
    assert not (tmp_path / "etc/y/two").exists()
    apply(Fake(site, "systemd"), make(two="2"), force=True)
    apply(Fake(site, "systemd"), make("other", path="/o.toml"))
    (sentence,) = double_scheduled("myapp", [site, site])
    assert "2 times: by cron, by systemd" in sentence
    assert "dbq-install-systemd --remove --name myapp --system" in sentence
    assert double_scheduled("other", [site]) == []


def test_what_was_taken_out_by_hand_is_not_scheduled(tmp_path: Path) -> None:
    """A manifest whose files are gone neither counts nor keeps another scheduler away."""
    site = Site(root=tmp_path)
    apply(Fake(site, "cron"), make(one="1"))
    (tmp_path / "etc/x/one").unlink()
    apply(Fake(site, "systemd"), make(two="2"))
    assert double_scheduled("myapp", [site]) == []
    assert schedulers("myapp", [site]) == [(site, "systemd")]


def test_metrics_go_with_what_writes_them(target: Fake, tmp_path: Path) -> None:
    """The file of a removed health check would be served for ever; a stranger's file stays."""
    metrics = tmp_path / "metrics.prom"
    config = make(one="1")
    config.metrics = (Path("/metrics.prom"),)
    for text, stays in (("# HELP dbq_up x\n", False), ("# HELP other x\n", True)):
        apply(target, config)
        metrics.write_text(text)
        remove(target, "myapp")
        assert metrics.exists() is stays
    apply(target, config)
    metrics.write_text("# HELP dbq_up x\n")
    config.metrics = ()
    apply(target, config)
    assert not metrics.exists(), "a config that names no textfile any more left it"


def test_a_user_has_manifests_of_their_own(tmp_path: Path) -> None:
    """The same name installed by the system and by a user are two installations."""
    zoe = Site("zoe", tmp_path, home=Path("/home/zoe"))
    apply(Fake(zoe, "systemd-user"), make(one="1"))
    assert (tmp_path / "home/zoe/.local/state/dbbasic-queue/installed").is_dir()
    assert load_manifest(Site(root=tmp_path), "myapp", "systemd-user") is None
    apply(Fake(Site(root=tmp_path), "systemd"), make(two="2"))
    assert "by systemd-user of zoe" in double_scheduled("myapp", [Site(root=tmp_path), zoe])[0]


@pytest.mark.parametrize("name", ["", "A", "../x", "a b", "a.b", "a\n", "1a", "a" * 33])
def test_only_a_name_finds_a_manifest(name: str, target: Fake) -> None:
    """What is not the name of a config never becomes part of a path."""
    with pytest.raises(InstallError, match="is not a name"):
        remove(target, name)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b'{"files": {}}', b'{"files": {"etc/x": []}}']
)
def test_a_damaged_manifest_is_an_error(text: bytes, target: Fake) -> None:
    """Neither apply nor removal guesses what a broken manifest said."""
    apply(target, make(one="1"))
    manifest_path(target.site, "myapp", "fake").write_bytes(text)
    for act in (lambda: apply(target, make(one="2")), lambda: remove(target, "myapp")):
        with pytest.raises(InstallError, match="manifest is damaged"):
            act()


def test_a_relative_path_in_a_manifest_is_not_followed(target: Fake, tmp_path: Path) -> None:
    """A manifest names absolute paths only."""
    apply(target, make(one="1"))
    path = manifest_path(target.site, "myapp", "fake")
    record = json.loads(path.read_text())
    record["files"] = {"../../etc/passwd": ["x"]}
    path.write_text(json.dumps(record))
    with pytest.raises(InstallError, match="paths must be absolute"):
        remove(target, "myapp")


def test_a_queue_that_is_a_link_is_refused(live: Fake, tmp_path: Path) -> None:
    """Units, lock and claims would each mean another folder; the file it leads to is the remedy."""
    real = tmp_path / "real.tsv"
    config = make(one="1")
    config.queue.file = tmp_path / "queue.tsv"
    config.queue.file.symlink_to(real)
    with pytest.raises(InstallError, match=f'symbolic link; name .* = "{real}"'):
        apply(live, config)
    assert not (tmp_path / "etc").exists()


@needs_root
def test_a_queue_that_this_user_cannot_look_at_is_no_error(live: Fake) -> None:
    """Nor is the config of a former installation: `dbq check` tells what the user cannot enter."""
    config = make(one="1")
    with open_place() as place:
        (place / "shut").mkdir(mode=0o700)
        config.queue.file = place / "shut" / "queue.tsv"
        old = SimpleNamespace(config=str(place / "shut" / "dbq.toml"))
        assert as_user(READER, lambda: list(plans._queue_faults(live, config))) == []
        as_user(READER, lambda: plans._refuse_namesake(live.site, old, config))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root goes by the manifests of the machine")
def test_root_goes_by_no_strangers_manifests(target: Fake, tmp_path: Path) -> None:
    """They say which files to delete: a folder that others can write is refused."""
    apply(target, make(one="1"))
    folder = target.site.installed
    for spoil in (lambda: folder.chmod(0o777), lambda: os.chown(folder, 65534, -1)):
        spoil()
        with pytest.raises(InstallError, match="is not root's alone"):
            apply(target, make(one="2"))
        folder.chmod(0o755)
    assert texts(tmp_path)["etc/x/one"] == b"1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led to what it alone may write")
def test_root_is_not_led_by_the_owner_of_a_folder_above(live: Fake, tmp_path: Path) -> None:
    """Who owns the folder above could put a link in the place of manifests and backups."""
    state = live.site.installed.parent
    state.mkdir(parents=True)
    os.chown(state, 65534, -1)
    with pytest.raises(InstallError, match="cannot go by what lies there"):
        apply(live, make(one="1"))
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("verb", ["apply", "remove"])
def test_what_changes_before_the_lock_is_seen_under_it(
    verb: str, target: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is made again under the lock: a late edit is kept, not overwritten."""
    apply(target, make(one="1"))
    one = tmp_path / "etc/x/one"
    locked = plans._locked

    @contextlib.contextmanager
    def late(site: Site) -> Iterator[None]:
        one.write_text("mine")
        with locked(site):
            yield

    monkeypatch.setattr(plans, "_locked", late)
    with pytest.raises(InstallError, match="changed by hand"):
        apply(target, make(one="1b")) if verb == "apply" else remove(target, "myapp")
    assert one.read_text() == "mine"


def test_what_is_written_and_deleted_outlives_a_power_cut(
    target: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders of written and of deleted files are synced, those of manifests too."""
    synced: list[str] = []
    real, by_path = Folder.sync, files.sync_folder

    def noted(folder: Folder) -> None:
        synced.append(str(folder.path.relative_to(tmp_path)))
        real(folder)

    def noted_by_path(path: Path) -> None:
        synced.append(str(path.relative_to(tmp_path)))
        by_path(path)

    monkeypatch.setattr(Folder, "sync", noted)
    monkeypatch.setattr(site_module, "sync_folder", noted_by_path)
    apply(target, make(one="1", two="2"))
    assert synced == [INSTALLED, "etc/x", "etc/y"]
    synced.clear()
    apply(target, make(one="1"))
    assert synced == ["etc/y", INSTALLED]
    synced.clear()
    remove(target, "myapp")
    assert synced == ["etc/x"]


def test_nothing_is_written_outside_the_root(target: Fake, tmp_path: Path) -> None:
    """A folder in the image that is a link to this machine's is an error."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "etc").symlink_to(outside)
    with pytest.raises(InstallError, match="leads out of"):
        apply(target, make(one="1"))
    assert list(outside.rglob("*")) == []


def test_a_folder_in_place_of_a_file_is_an_error(target: Fake, tmp_path: Path) -> None:
    """What is in the way is named, and stays."""
    (tmp_path / "etc/x/one").mkdir(parents=True)
    with pytest.raises(InstallError, match="out of the way"):
        apply(target, make(one="1"), force=True)


def test_an_image_is_never_activated(target: Fake) -> None:
    """Below --root the target is not told to start or stop anything."""
    target.asleep = ["x is not enabled"]
    apply(target, make(one="1", two="2"))
    apply(target, make(one="1"))
    assert plan_apply(target, make(one="1")).in_sync
    remove(target, "myapp")
    assert target.told == []


def test_activation_sees_each_change_once(live: Fake) -> None:
    """Files are stopped while they are still there; activation comes last, also on removal."""
    apply(live, make(one="1", two="2"))
    apply(live, make(one="1b"))
    apply(live, make(one="1b"))
    remove(live, "myapp")
    assert live.told == [
        {ONE: Action.CREATE, TWO: Action.CREATE},
        [(TWO, True)],
        {ONE: Action.UPDATE, TWO: Action.DELETE},
        [(ONE, True)],
        {ONE: Action.DELETE},
    ]


def test_what_is_not_in_force_is_activated_again(live: Fake, tmp_path: Path) -> None:
    """An activation that failed is made up for by the next apply, which writes no file."""
    apply(live, make(one="1"))
    live.asleep, live.told = ["the timer is not enabled"], []
    before = tree(tmp_path)
    assert plan_apply(live, make(one="1")).inactive
    apply(live, make(one="1"))
    assert live.told == [{}]
    assert tree(tmp_path) == before


class Disk:
    """The disk under the installer: fails at the n-th step that changes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.fail_at = 0, 0
        for module, name in ((os, "rename"), (Path, "unlink"), (os, "fchmod"), (os, "write")):
            monkeypatch.setattr(module, name, self._step(getattr(module, name)))
        monkeypatch.setattr(os, "fsync", self._step(lambda handle: None))  # a step, but a slow one

    def _step(self, real):
        def call(*args, **kwargs):
            self.steps += 1
            if self.steps == self.fail_at:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    @contextlib.contextmanager
    def failing(self, step: int) -> Iterator[None]:
        self.steps, self.fail_at = 0, step
        try:
            yield
        finally:
            self.fail_at = 0


def in_etc(root: Path) -> dict[str, bytes]:
    return {name: text for name, text in texts(root).items() if name.startswith("etc")}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("verb", ["apply", "remove"])
def test_a_full_disk_at_any_step_is_made_good_by_the_next_run(
    verb: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is old or new, no temporary is left, and no later run needs --force.

    Whatever it is: the same again, another change, or a removal.
    """
    disk = Disk(monkeypatch)
    nexts = {"again": {"etc/x/one": b"new"}, "another": {"etc/y/two": b"other"}, "remove": {}}
    for step in range(1, 60):
        for then, result in nexts.items():
            root = tmp_path / f"{step}-{then}"
            root.mkdir()
            target = Fake(Site(root=root))
            if before:
                apply(target, make(one="old", two="gone"))
            failed = False
            try:
                with disk.failing(step):
                    apply(target, make(one="new")) if verb == "apply" else remove(target, "myapp")
            except InstallError as error:
                failed = "No space left on device" in str(error)
            if failed:
                assert in_etc(root).get("etc/x/one", b"old") in (b"old", b"new")
                assert set(in_etc(root)) <= {"etc/x/one", "etc/y/two"}
            if then == "remove":
                remove(target, "myapp")
            else:
                apply(target, make(one="new") if then == "again" else make(two="other"))
            assert in_etc(root) == result
        if not failed:
            break
    assert step > 4 or (verb == "remove" and not before), "no step failed"


def _apply_often(root: Path, text: str) -> None:
    target = Fake(Site(root=root))
    for _ in range(8):
        apply(target, make(one=text, two=text))
        remove(target, "myapp")


def test_who_keeps_the_lock_of_an_installer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can open the folder of what is installed, and keep its lock: not for ever, then."""
    monkeypatch.setattr(plans, "LOCK_WAIT", 0.1)
    site = Site(root=tmp_path)
    site.installed.mkdir(parents=True)
    handle = os.open(site.installed, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        named = rf"what is installed is locked: process {os.getpid()}\b.* for 0.1 s"
        with pytest.raises(InstallError, match=named), plans._locked(site):
            pass
    finally:
        os.close(handle)


def test_installers_at_the_same_time_take_turns(tmp_path: Path) -> None:
    """Processes that apply and remove at once never see each other's half-done work."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_apply_often, args=(tmp_path, str(n))) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert texts(tmp_path) == {}


def test_a_diff_is_fit_for_a_terminal(target: Fake) -> None:
    """Control characters and bytes that are not UTF-8 are escaped, a missing newline is told."""
    config = make()
    config.files[ONE] = (b"\x1b[31m\xff\rx", 0o644)
    assert diff(plan_apply(target, config)) == (
        "--- /dev/null\n+++ /etc/x/one\n@@ -0,0 +1 @@\n"
        "+\\x1b[31m\\xff\\rx\n\\ No newline at end of file\n"
    )


def test_the_likely_places_are_asked_for_double_scheduling() -> None:
    """The system, the caller and the worker's user, each once; unknown users are left out."""
    caller = pwd.getpwuid(os.geteuid()).pw_name
    assert likely_sites() == [Site(), Site(caller)]
    assert likely_sites("nobody") == [Site(), Site(caller), Site("nobody")]
    assert likely_sites("no-such-user") == [Site(), Site(caller)]
