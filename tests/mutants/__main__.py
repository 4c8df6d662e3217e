"""Put each fault of the list into a copy, and see whether the test notices."""

from __future__ import annotations

import argparse
import compileall
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from .mutant import Mutant, load

ROOT = Path(__file__).resolve().parents[2]
WINGS = (
    *("table", "engines", "redis", "worker", "schedule"),
    *("install", "cron", "systemd", "health", "migrate", "choosing", "commands"),
    *("control", "history", "integrations", "views", "others"),
)
AT_LEAST = 150  # in the whole list
SECONDS = 120  # for the one test of a mutant
TRIES = 3  # not each run of a test that finds a race, or draws its examples, meets the fault
COPIED = ("dbbasic_queue", "tests", "packaging", "cron", "systemd", "views", "examples", "docs")
FILES = ("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
# Where `--find` looks for a test besides the folder of the wing's own.
ELSEWHERE = {
    "table": ["tests/engines", "tests/stress"],
    "engines": ["tests/worker", "tests/stress"],
    "worker": ["tests/cli", "tests/stress"],
    "schedule": ["tests/cli"],
    "install": ["tests/cron", "tests/systemd", "tests/cli"],
    "cron": ["tests/install", "tests/cli"],
    "systemd": ["tests/install", "tests/cli"],
}
EXAMPLES = """examples:
  python -m tests.mutants                    all of them
  python -m tests.mutants table worker       those of two wings
  python -m tests.mutants --only line.py     those whose file has this in its name
  python -m tests.mutants --find --only x    which test would notice, if any"""


def wings() -> tuple[str, ...]:
    """All wings; without that of a server where there is none, as its tests are skipped then."""
    if any(shutil.which(name) for name in ("redis-server", "valkey-server")):
        return WINGS
    print("redis: no redis-server here, so its faults are left out")
    return tuple(wing for wing in WINGS if wing != "redis")


def main() -> int:
    """Run what was asked for; 1 if a fault was not noticed or the list has one itself."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("wings", nargs="*", metavar="WING", help=f"of {', '.join(WINGS)}; all")
    parser.add_argument("--only", default="", metavar="TEXT", help="only where the name has this")
    parser.add_argument("--find", action="store_true", help="look for a test that notices")
    jobs = 1 + (os.cpu_count() or 1)  # many tests wait for something now and then
    parser.add_argument("--jobs", type=int, default=jobs, help="how many at once (%(default)s)")
    arguments = parser.parse_args()
    began = time.monotonic()
    chosen = [
        (wing, mutant)
        for wing in arguments.wings or wings()
        for mutant in load(wing)
        if arguments.only in f"{mutant.file} {mutant.promise}"
    ]
    with tempfile.TemporaryDirectory(prefix="dbq-mutants-") as folder:
        os.chmod(folder, 0o755)  # some tests start a program as another user
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(arguments.jobs):
            copies.put(copied(Path(folder) / str(number)))
        if not arguments.find and (said := unsound(Path(folder) / "0", [m for _, m in chosen])):
            print(said)
            return 1
        with ThreadPoolExecutor(arguments.jobs) as pool:
            tried = [pool.submit(attempt, copies, *each, arguments.find) for each in chosen]
            faults = [fault for done in tried for fault in told(done.result())]
    whole = not (arguments.wings or arguments.only)
    if whole and len(chosen) < AT_LEAST:
        faults.append(f"the list has {len(chosen)} mutants, not {AT_LEAST}")
    for fault in faults:  # once more, where the end of a long output shows them
        print(fault)
    print(
        f"mutants: {len(chosen)} faults, {len(chosen) - len(faults)} noticed,"
        f" in {time.monotonic() - began:.0f} s"
    )
    return 1 if faults else 0


def copied(target: Path) -> Path:
    """A copy of what the tests need, with the library compiled."""
    leave = shutil.ignore_patterns("__pycache__", "e2e", "bench", "*.egg-info")
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=leave)
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, target / name)
    for released in (".cache/v1", ".cache/family"):  # other people's packages, see the Makefile
        if (ROOT / released).is_dir():
            (target / ".cache").mkdir(exist_ok=True)
            (target / released).symlink_to(ROOT / released)
    compileall.compile_dir(target / "dbbasic_queue", quiet=1)
    return target


def unsound(copy: Path, mutants: Sequence[Mutant]) -> str:
    """What the tests say before anything is changed; empty if they pass."""
    tests = sorted({mutant.test for mutant in mutants if fits(mutant) and mutant.test})
    if not tests:
        return ""
    code, said = pytest(copy, tests, len(tests) * SECONDS)
    return "" if code == 0 else f"without a fault:\n{said}"


def fits(mutant: Mutant) -> bool:
    """Whether the text to be replaced stands in the file, once."""
    path = ROOT / "dbbasic_queue" / mutant.file
    return path.exists() and path.read_text().count(mutant.old) == 1


def pytest(copy: Path, tests: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run tests in a copy until one fails; return the exit code and what was said.

    Raises `subprocess.TimeoutExpired`. What the tests have started ends with them.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-rfE", "--tb=short", "--show-capture=no"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",  # what is compiled of a mutant must not outlive it
    }
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, *tests],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return code, said.read()


def attempt(copies: SimpleQueue[Path], wing: str, mutant: Mutant, find: bool) -> tuple[str, str]:
    """Put one fault into a copy that is free; return how it went and a line about it."""
    about = f"{mutant.file}: {mutant.promise}"
    if not fits(mutant):
        return "FAULT OF THE LIST", f"{about}\n    not there once: {mutant.old!r}"
    if not (mutant.test or find):
        return "FAULT OF THE LIST", f"{about}\n    no test is named"
    copy = copies.get()
    path = copy / "dbbasic_queue" / mutant.file
    text, times = path.read_text(), path.stat()
    try:
        path.write_text(text.replace(mutant.old, mutant.new))
        if find:
            return found(copy, wing, about)
        for _ in range(TRIES):
            code, said = pytest(copy, [mutant.test], SECONDS)
            if code != 0:
                break
        if code == 1 or code < 0:  # it failed, or killed itself
            return "noticed", about
        if code == 0:
            return "NOT NOTICED", f"{about}\n    by {mutant.test}: {said.splitlines()[-1]}"
        return "FAULT OF THE LIST", f"{about}\n    {mutant.test}: {said}"
    except subprocess.TimeoutExpired:
        return "noticed", f"{about} (the test did not end)"
    finally:
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        copies.put(copy)


def found(copy: Path, wing: str, about: str) -> tuple[str, str]:
    """The test that notices, of the wing's own or of those that stand on it."""
    for folder in (f"tests/{wing}", *ELSEWHERE.get(wing, ["tests"])):
        if not (copy / folder).exists():
            continue
        code, said = pytest(copy, [folder], 20 * SECONDS)
        if code not in (0, 5):
            failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
            return "noticed", f"{about}\n    by {failed[1] if failed else said[-500:]}"
    return "NOT NOTICED", about


def told(outcome: tuple[str, str]) -> Iterator[str]:
    """Print how it went; what was not noticed is handed back."""
    how, about = outcome
    print(f"{how}: {about}", flush=True)
    if how != "noticed":
        yield f"{how}: {about}"


if __name__ == "__main__":
    sys.exit(main())
