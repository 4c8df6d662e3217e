"""A Debian machine that boots in seconds and is thrown away, to try installers for real.

Theory of operation
-------------------
debootstrap makes a Debian root once; it is kept below `.cache/e2e` of the checkout. Each `Machine`
is a copy of it, booted by systemd-nspawn with its own systemd, users and empty network. Commands
run in it through nsenter, so that neither ssh nor machined is needed, and the harness works where
the host itself was not booted with systemd (a container, a CI runner).

Nothing from outside is written down here: the Debian mirror is the one of the host's apt
configuration, and Python packages come through the host's pip into a wheelhouse, from which the
machine installs without a network.

Needs root, debootstrap, systemd-container and util-linux. `make e2e` sees to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache" / "e2e"
# For all tests, so that they share one root.
PACKAGES = (
    *("systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session"),
    *("cron", "logrotate", "python3-venv", "strace"),
)
VENV = Path("/opt/dbq/venv")
BOOT_SECONDS = 300  # of a machine beside which a processor is wanted elsewhere
LOOK_SECONDS = 20  # at how far it is: its systemd perhaps does not answer yet
COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Release:
    """A Debian release and the Python that comes with it."""

    codename: str
    python: str


RELEASES = {"12": Release("bookworm", "3.11"), "13": Release("trixie", "3.13")}


def say(text: str) -> None:
    """Tell what is being done, at once."""
    print(f"e2e: {text}", flush=True)


class CommandFailed(AssertionError):
    """A command in the machine, or one that was to prepare it, did not do what it should."""


# --- What is made once and kept ------------------------------------------------------------------


def base_root(release: Release, packages: Sequence[str] = PACKAGES) -> Path:
    """The folder of a fresh Debian root with these packages; made if it is not cached yet."""
    packages = sorted(set(packages))

    def make(root: Path) -> None:
        say(f"debootstrap of Debian {release.codename} with {', '.join(packages)} (a minute)")
        _debootstrap(release, packages, root)

    return _cached(f"debian-{release.codename}-{_digest(packages)}", make)


def offering_root(release: Release, offered: Sequence[str]) -> Path:
    """The base root, in which apt-get can install these packages without a network."""
    base = base_root(release)

    def make(root: Path) -> None:
        say(f"downloading for the apt-get in it: {', '.join(offered)}")
        _host(["cp", "-a", "--reflink=auto", str(base), str(root)])
        resolver = root / "etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        shutil.copyfile("/etc/resolv.conf", resolver)
        _host(["chroot", str(root), "apt-get", "update"])
        fetch = ["apt-get", "install", "--yes", "--no-install-recommends", "--download-only"]
        _host(["chroot", str(root), *fetch, *offered])
        resolver.unlink()

    return _cached(f"{base.name}-{_digest(offered)}", make)


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache, made if it is not there; whole or not at all."""
    root = CACHE / name
    if root.is_dir():
        say(f"Debian root from the cache: {root.relative_to(CHECKOUT)}")
        return root
    partial = root.with_suffix(f".partial-{os.getpid()}")
    try:
        make(partial)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _debootstrap(release: Release, packages: Sequence[str], root: Path) -> None:
    root.mkdir(parents=True)
    mirror = debian_mirror()
    include = f"--include={','.join(packages)}"
    command = ["debootstrap", "--variant=minbase", include, release.codename, str(root)]
    _host([*command, mirror] if mirror else command)
    # Each copy gets an id of its own at its first boot (machine-id(5)).
    (root / "etc/machine-id").write_text("")


def debian_mirror() -> str | None:
    """The mirror that apt on this host takes Debian from; None leaves it to debootstrap."""
    form = "$(LABEL)\t$(REPO_URI)"
    listing = _host(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    mirrors = (line.partition("\t") for line in listing.splitlines())
    return next((uri for label, _, uri in mirrors if label == "Debian"), None)


@cache
def wheelhouse(release: Release) -> Path:
    """A folder with the checkout's wheel, built now, and with all it depends on."""
    folder = CACHE / f"wheels-{release.python}"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("dbbasic_queue-*.whl"):
        stale.unlink()
    wheel = _build_wheel(folder)
    say(f"its dependencies for Python {release.python} into {folder.relative_to(CHECKOUT)}")
    only = ["--only-binary=:all:", "--python-version", release.python]
    # pip goes by the version of its own Python; Debian 12's is an older 3.11, which redis-py
    # wants this for. So is django-tasks, which Django 5.2 needs, and with that Debian 12.
    wanted = [f"{wheel}[redis,django]", "async-timeout", "django-tasks"]
    _host([*_pip("download"), *only, "--find-links", str(folder), "-d", str(folder), *wanted])
    return folder


def _build_wheel(folder: Path) -> Path:
    """Build from a copy of the sources: setuptools leaves a build folder that goes stale."""
    say("building the wheel of this checkout")
    skip = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "source"
        shutil.copytree(CHECKOUT, copy, ignore=skip)
        _host([*_pip("wheel"), "--no-deps", "--wheel-dir", str(folder), str(copy)])
    (wheel,) = folder.glob("dbbasic_queue-*.whl")
    return wheel


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]


def _host(command: Sequence[str]) -> str:
    """Run a command on the host and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        told = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        raise CommandFailed(f"{' '.join(command)}: exit {done.returncode}\n{told}")
    return done.stdout


# --- The machine ---------------------------------------------------------------------------------


class Machine:
    """One booted Debian, a copy of the base root; it is gone after the `with` block.

    Args:
        number: the Debian release, "12" or "13".
        packages: what is installed on top of a minimal Debian.
        offered: what its apt-get can install, though it has no network.

    Example:
        with Machine("12") as machine:
            machine.install_project()
            machine.run("systemctl --failed")
    """

    def __init__(
        self, number: str = "12", packages: Sequence[str] = PACKAGES, offered: Sequence[str] = ()
    ) -> None:
        self.release = RELEASES[number]
        self.number = number
        self._packages = packages
        self._offered = offered
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.root = CACHE / f"machine-{number}-{os.getpid()}"

    def __enter__(self) -> Machine:
        if os.geteuid() != 0:
            raise CommandFailed("booting a machine takes root: sudo make e2e")
        _remove_abandoned()
        base = base_root(self.release, self._packages)
        if self._offered:
            base = offering_root(self.release, self._offered)
        _host(["cp", "-a", "--reflink=auto", str(base), str(self.root)])
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.power_off()
        shutil.rmtree(self.root)
        _console(self.root).unlink(missing_ok=True)

    def boot(self) -> None:
        """Start the machine and wait until its systemd says that all is up, twice if need be.

        A machine that is up, with a unit that failed, is an error at once.
        """
        say(f"booting Debian {self.number} ({self.release.codename})")
        try:
            self._start()
        except CommandFailed as error:
            say(f"it does not come up, once more: {error}")
            self.power_off()
            self._start()
        if self._state() != "running":
            raise CommandFailed("it did not start well:\n" + self.run("systemctl --failed").stdout)

    def _start(self) -> None:
        self._process = _nspawn(self.root)
        try:
            self._leader = _wait("the machine's init", self._find_leader)
            _wait("the end of the machine's start", self._is_up)
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{self._told()}") from None

    def _told(self) -> str:
        """What the machine says on its console, and what it waits for, for an error."""
        told = _console(self.root).read_text(errors="replace")[-4000:]
        try:
            jobs = self.run("systemctl list-jobs; ps -ef", check=False, seconds=LOOK_SECONDS)
            return f"its console:\n{told}\nit waits for:\n{jobs.stdout}\n{jobs.stderr}"
        except (subprocess.SubprocessError, OSError) as error:
            return f"its console:\n{told}\nit cannot be asked: {error}"

    def power_off(self) -> None:
        """Shut the machine down in good order; its disk stays, so that it can boot again."""
        if self._process is None:
            return
        say("powering off")
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            say("it does not stop; killing it")
            # Its init: without that its processes would outlive systemd-nspawn.
            os.kill(self._leader or self._process.pid, signal.SIGKILL)
            self._process.wait()
        _drop_cgroups(self._process.pid)
        self._process, self._leader = None, 0

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        environment: dict[str, str] | None = None,
        text: str = "",
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine: a string by /bin/sh, a list as it is.

        Args:
            command: what to run, in `/`, with a minimal environment and the venv on PATH.
            user: whose command it is. Its runtime folder is in the environment if it has one.
            environment: more variables.
            text: standard input.
            check: raise `CommandFailed` if the exit status is not 0.
            seconds: kill it after so long.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        variables = self._environment(user) | (environment or {})
        pairs = [f"{key}={value}" for key, value in variables.items()]
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        done = subprocess.run(
            [*self._enter(), "env", "-i", "-C", "/", *pairs, *become, *argv],
            input=text,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=seconds,
            preexec_fn=self._join_cgroup,
        )
        if check and done.returncode:
            told = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise CommandFailed(f"{command} (as {user}): exit {done.returncode}\n{told}")
        return done

    def path(self, path: str | Path) -> Path:
        """Where a file of the machine's disk lies on the host (not for /run, /tmp, /proc)."""
        return self.root / Path(path).relative_to("/")

    def write(self, path: str | Path, text: str, *, owner: str = "root", mode: int = 0o644) -> None:
        """Put a file on the machine's disk, with its folder."""
        real = self.path(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text)
        real.chmod(mode)
        if owner != "root":
            self.run(["chown", f"{owner}:", str(path)])

    def install_project(self) -> None:
        """Make a virtual environment at `VENV` and install this checkout's wheel into it."""
        wheels = wheelhouse(self.release)
        say(f"installing the wheel into {VENV}, without a network")
        shutil.copytree(wheels, self.path("/opt/dbq/wheels"), dirs_exist_ok=True)
        pip = f"{VENV}/bin/pip install --quiet --no-index --find-links /opt/dbq/wheels"
        self.run(f"python3 -m venv {VENV} && {pip} dbbasic-queue")

    def uid(self, user: str) -> int:
        """The user's number in the machine."""
        accounts = self.path("/etc/passwd").read_text().splitlines()
        return next(int(a.split(":")[2]) for a in accounts if a.startswith(f"{user}:"))

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 90) -> None:
        """Wait until the condition holds; if it never does, show the end of the journal."""
        try:
            _wait(what, condition, seconds)
        except CommandFailed as error:
            journal = self.run("journalctl --no-pager --lines=60", check=False).stdout
            raise CommandFailed(f"{error}\n{journal}") from None

    def _is_up(self) -> bool:
        try:
            return self._state() in ("running", "degraded")
        except subprocess.SubprocessError:  # its init is not yet in the cgroup where it will stay
            return False

    def _state(self) -> str:
        asked = self.run("systemctl is-system-running", check=False, seconds=LOOK_SECONDS)
        return asked.stdout.strip()

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._leader), "--all"]

    def _join_cgroup(self) -> None:
        """Be a process of the machine for its systemd too; logind refuses those from outside."""
        for line in Path(f"/proc/{self._leader}/cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0":
                (_cgroup_root() / path.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))

    def _environment(self, user: str) -> dict[str, str]:
        path = f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        home = "/root" if user == "root" else f"/home/{user}"
        return {"PATH": path, "LANG": "C.UTF-8", "HOME": home, "USER": user, "LOGNAME": user}

    def _find_leader(self) -> int:
        """The host's number of the machine's first process, 0 as long as there is none.

        systemd-nspawn has another child before: it mounts the machine's folders, makes this one,
        and ends. It is known by its number in the machine, which is 1.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            console = _console(self.root).read_text(errors="replace")
            raise CommandFailed(f"systemd-nspawn ended ({self._process.returncode}):\n{console}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for child in children.read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                status = Path(f"/proc/{child}/status").read_text()
                numbers = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
                if numbers and numbers[1].split()[1:] == ["1"]:
                    return int(child)
        return 0


def _wait(what: str, condition: Callable[[], T], seconds: float = BOOT_SECONDS) -> T:
    """Ask again and again until the answer is true; return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise CommandFailed(f"waited {seconds} s in vain for {what}")


# --- systemd-nspawn ------------------------------------------------------------------------------


def _nspawn(root: Path) -> subprocess.Popen[bytes]:
    """Start the machine. It dies with this process, and a keyboard interrupt does not reach it."""
    command = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--boot"]
    command += ["--directory", str(root), "--machine", "dbq-e2e", "--register=no"]
    command += ["--private-network", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
    if not _host_has_systemd():
        command += ["--keep-unit"]
    # Debian 13's systemd does not boot on the old cgroup hierarchy, whatever the host has.
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with _console(root).open("wb") as console:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=environment,
            start_new_session=True,
            preexec_fn=None if _host_has_systemd() else _enter_own_cgroups,
        )


def _console(root: Path) -> Path:
    return root.with_suffix(".console")


def _host_has_systemd() -> bool:
    """Whether the host's systemd gives the machine a scope (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def _enter_own_cgroups() -> None:
    """Move this process into cgroups of its own: without the host's systemd nothing else would,
    and two machines at a time would share one."""
    for folder in _cgroups(os.getpid()):
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def _drop_cgroups(pid: int) -> None:
    for folder in _cgroups(pid):
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)


def _cgroups(pid: int) -> list[Path]:
    """The folders of one machine, in each hierarchy that systemd counts processes in."""
    return [root / f"dbq-e2e-{pid}" for root in _cgroup_roots()]


def _cgroup_roots() -> list[Path]:
    roots = {_cgroup_root(), Path("/sys/fs/cgroup/systemd")}
    return [root for root in sorted(roots) if root.is_dir()]


def _cgroup_root() -> Path:
    """Where the host has its unified hierarchy: at the top, or beside the old ones."""
    beside = Path("/sys/fs/cgroup/unified")
    return beside if beside.is_dir() else beside.parent


def _remove_abandoned() -> None:
    """Take away what test runs that were killed left behind, and nothing of those that run."""
    for folder in (folder for root in _cgroup_roots() for folder in root.glob("dbq-e2e-*")):
        pid = int(folder.name.rpartition("-")[2])
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):  # processes may outlive a killed systemd-nspawn
                _drop_cgroups(pid)
    for disk in CACHE.glob("machine-*-*"):
        pid = int(disk.stem.rsplit("-", 1)[1])
        if Path(f"/proc/{pid}").exists():
            continue
        shutil.rmtree(disk) if disk.is_dir() else disk.unlink()


def _interactive() -> None:
    """`python tests/e2e/machine.py [12|13]`: boot one, with the project in it, and open a shell."""
    with Machine(*sys.argv[1:2]) as machine:
        machine.install_project()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        subprocess.run([*machine._enter(), "/bin/bash", "-l"])


if __name__ == "__main__":
    _interactive()
