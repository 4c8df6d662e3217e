"""Every code block of the README, of docs/ and of the contributor's guide is run or held here.

`sh`, `python` and `toml` blocks run for real, page by page, in an empty folder and in their order.
`console` blocks need root or a machine of their own: each of their commands is listed in HELD with
the test that runs it. `text` blocks are not commands.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pages
import picture
import pytest
from crontab import CronTab
from page_blocks import ROOT, blocks, environment
from redis_server import program

from dbbasic_queue import Queue
from dbbasic_queue.cli import main as cli
from dbbasic_queue.config import sections as config
from dbbasic_queue.views import screen

LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
WITH_A_QUEUE = {
    "docs/operations.md",
    "docs/monitoring.md",
    "docs/seeing.md",
}  # their commands look at a queue
PACKAGE = "tests/e2e/test_packages.py"
BUILDS = "tests/e2e/test_package_builds.py"
HERE = "tests/release/test_packaging.py"
COMMANDS = "tests/cli/test_commands.py"
# What a page tells to type that takes root or a machine of its own: the test that does it, and
# what that test says for it.
HELD = {
    r"dbq serve.*": ("tests/cli/test_serve.py", '"serve", "--port", "0"'),
    r"gunicorn dbbasic_queue\.web:app": ("tests/cli/test_serve.py", "web import app"),
    r"apt-get install \./dbbasic-queue_.*_all\.deb": (PACKAGE, '"apt-get", "--yes"'),
    r"sudoedit /etc/dbbasic-queue/dbq\.toml": (PACKAGE, "^python = .*|python ="),
    r"dbq check --config \S+": (PACKAGE, '"dbq", "check", "--config", CONFIG'),
    r"dbq-install-systemd --config \S+": (PACKAGE, '"dbq-install-systemd", "--config", CONFIG'),
    r"adduser www-data _dbbasic-queue": (PACKAGE, "--append --groups _dbbasic-queue web"),
    r"adduser nagios _dbbasic-queue-read": (PACKAGE, "--append --groups _dbbasic-queue-read nag"),
    r"echo /usr/lib/dbbasic-queue > .*\.pth": (PACKAGE, 'dbbasic-queue.pth").write_text'),
    r".*\bshop\b(?!/venv| && ).*|sudo -u nagios .*|setfacl .*": (PACKAGE, "def _of_the_page"),
    r"dbq restart --wait --timeout 10min": ("tests/cli/test_run.py", '"restart", "--wait"'),
    r"dbq enqueue backup '.*'": (COMMANDS, '"enqueue", "backup"'),
    r"python3 -m venv /srv/shop/venv": (PACKAGE, "python3 -m venv --without-pip /srv/shop/venv"),
    r"/srv/shop/venv/bin/pip install dbbasic-queue": (HERE, "def test_the_wheel_works"),
    r"cd /srv/shop && venv/bin/dbq init && venv/bin/dbq check": (
        "tests/release/test_pages.py",
        "def test_blocks_run",
    ),
}


# That of the machines needs a server: test_machines_page.py runs its blocks.
@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/machines.md"])
def test_blocks_run(page: str, tmp_path: Path) -> None:
    """A reader who types what a page says gets no error."""
    if page in WITH_A_QUEUE:
        Queue(tmp_path / "queue.tsv").enqueue("greet", {"name": "Zoë"})
    where = tmp_path
    for language, text in blocks(page):
        text = text.replace("/var/lib/dbbasic-queue/main", str(where))
        if "$RQ_REDIS_URL" in text:
            continue  # on a server: tests/release/test_recipes.py
        if "django" in text:
            text = _for_this_django(text)
        if language == "toml":
            config.parse(text, where / "dbq.toml")
        if language in ("text", "crontab", "console", "toml"):
            continue
        if "make " in text:
            words = text.replace("make ", "make --dry-run ")
            command, folder = ["bash", "-euc", words], ROOT
        elif language == "python":
            command, folder = [sys.executable, "-c", text], where
        else:
            assert language == "sh", f"no test runs a block in {language!r}"
            command, folder = ["bash", "-euo", "pipefail", "-c", text], where
        done = subprocess.run(
            command, cwd=folder, env=environment(tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if "cd shop" in text:
            where = tmp_path / "shop"


def _for_this_django(text: str) -> str:
    """What the page tells a reader who has Django 5.2 to write instead."""
    import django

    if django.VERSION >= (6,):
        return text
    text = text.replace("from django.tasks import", "from django_tasks import")
    return text.replace('append("mail")', 'extend(["mail", "django_tasks"])')


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_need_root_are_held(page: str) -> None:
    """Each command of a console block is run by a test, which is there and says so."""
    lines = [line for kind, text in blocks(page) if kind == "console" for line in text.splitlines()]
    for line in lines:
        command = re.sub(r"\s+# .*", "", line.removeprefix("$ ").removeprefix("# "))
        held = next(place for known, place in HELD.items() if re.fullmatch(known, command))
        assert held[1] in (ROOT / held[0]).read_text(), command


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A link to a file of the project, and to a heading in it, leads to one that is there."""
    for target, anchor in LINK.findall((ROOT / page).read_text()):
        if ":" in target:
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}
            assert anchor[1:] in slugs, f"{target}{anchor}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/proof.md"])
def test_modules_that_a_page_names_are_there(page: str) -> None:
    """`wing/module`, with or without .py, is a file of the library or of the project."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`([a-z_]+(?:/[a-z0-9_.@]+)+?)/?`", text):
        places = (ROOT / name, ROOT / "dbbasic_queue" / name, ROOT / f"dbbasic_queue/{name}.py")
        assert any(place.exists() for place in places), name


def test_the_readme_is_short() -> None:
    """The first page is read to its end: 1,400 words, and all else has a page of its own."""
    assert len((ROOT / "README.md").read_text().split()) <= 1400


def test_the_installation_is_that_of_the_administrators_page() -> None:
    """From the package to running jobs it takes the same commands in README and operations."""
    (block,) = (text for kind, text in blocks("README.md") if kind == "console")
    page = (ROOT / "docs" / "operations.md").read_text()
    for line in block.splitlines():
        command = re.sub(r"\s+# .*", "", line)
        assert f"\n{command}" in page, command


def test_crontab_of_the_readme_is_valid() -> None:
    """The crontab lines that the README shows are accepted by cron and by dbq."""
    found = [text.splitlines() for kind, text in blocks("README.md") if kind == "crontab"]
    lines = [line for text in found for line in text]
    assert lines
    for line in lines:
        (entry,) = CronTab(tab=line + "\n")
        assert entry.is_valid()
        words = shlex.split(entry.command)
        start = next(i for i, word in enumerate(words) if word.endswith("/dbq")) + 1
        stop = words.index(">>") if ">>" in words else len(words)
        assert cli._parser().parse_args(words[start:stop]).linger == "50s"


def test_every_page_is_on_the_site() -> None:
    """`make docs` has each page of docs/ in its menu."""
    menu = re.findall(r"^  - (\S+\.md)$", (ROOT / "packaging/docs/mkdocs.yml").read_text(), re.M)
    assert {path.name for path in ROOT.glob("docs/*.md")} <= set(menu)


def test_every_command_is_in_the_readme() -> None:
    """The README's table names each command of `dbq`, and no other."""
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^\| `dbq ([a-z-]+)", readme, re.MULTILINE))
    (choices,) = (a.choices for a in cli._parser()._actions if a.choices and a.dest != "help")
    assert named == set(choices)


@pytest.mark.parametrize("page", pages.PAGES)
def test_parts_that_the_library_tells_are_as_it_tells_them(page: str) -> None:
    """The plan of the house, the thresholds and the metrics are those of the code."""
    assert pages.renewed(page) == (ROOT / page).read_text(), "run `make pages`"


def test_the_picture_is_of_what_the_commands_print(tmp_path: Path) -> None:
    """docs/terminal.svg shows what the commands print now, but for times, ids and numbers."""
    drawn = (ROOT / "docs" / "terminal.svg").read_text()
    now = picture.drawn(picture.play(tmp_path))
    assert _without_numbers(now) == _without_numbers(drawn), "run `make pages`"


def test_the_picture_of_the_screen_is_of_dbq_top() -> None:
    """docs/top.svg has the groups and the keys that the screen has now."""
    drawn = (ROOT / "docs" / "top.svg").read_text()
    for words in (screen.RUNNING, screen.FAILED, screen.TYPES, screen.NEXT, screen.KEYS):
        assert words in drawn, "run `make pictures`"


def test_the_picture_of_the_report_is_small() -> None:
    """docs/report.png is a PNG that a page on the way to a telephone can hold."""
    drawn = (ROOT / "docs" / "report.png").read_bytes()
    assert drawn.startswith(b"\x89PNG\r\n")
    assert len(drawn) < 200_000


def _without_numbers(svg: str) -> str:
    words = re.sub(r"<[^>]*>", "", svg).replace("last worker run now", "last worker run 1s ago")
    return re.sub(r"\b[0-9a-z]{16}\b|\d+", "N", words)


@pytest.mark.parametrize("engine", ["file", "redis"])
def test_the_demo_runs(engine: str) -> None:
    """The demo runs to its end, and says ok of everything it checks, whatever keeps the jobs."""
    if engine == "redis" and program() is None:
        pytest.skip("no redis-server and no valkey-server: install the package redis-server")
    done = subprocess.run(
        [sys.executable, "examples/demo.py", engine], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT OK" not in done.stdout
    assert done.stdout.count("\nok: ") == 5
