"""`make pictures`: docs/top.svg, the README's picture of `dbq top`, from a terminal in use.

A shop's queue is made in an empty folder, with jobs that failed, wait and run. `dbq top` is started
on it in tmux, at 80 by 24, and what the screen shows then, colours included, is drawn. Run it again
when that has changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import picture

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from screens import Screen  # noqa: E402 - found by the line before

TARGET = ROOT / "docs" / "top.svg"
COLUMNS, ROWS = 80, 24
HANDLERS = """\
import os
import time

from dbbasic_queue import current_job


def wait(payload):
    if "page" in payload:
        current_job().progress(payload["page"] / 10, f"page {payload['page']} of 10")
    while not os.path.exists("enough"):
        time.sleep(0.1)


def send(payload):
    raise TimeoutError(f"no answer from mail{payload['n'] % 3}.example.com in 30 s")


def charge(payload):
    raise ValueError(f"card {payload['n']} was declined")


def ok(payload):
    return "done"


HANDLERS = {"render_report": wait, "sync_stock": wait, "resize": ok}
HANDLERS |= {"send_mail": send, "charge_card": charge}
"""
SGR = re.compile(r"\x1b\[([\d;]*)m")


def main() -> None:
    """Look at the screen and draw it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        with working(folder), Screen(folder, COLUMNS, ROWS) as screen:
            screen.run("clear; dbq top --file data/queue.tsv".replace("dbq", dbq()))
            screen.wait_for("page 4 of 10")
            screen.wait_for("^sync_stock|  sync_stock +.* process")
            screen.press("Down", "Down")
            screen.until(lambda: "\x1b[0;7m" in screen.lines(colours=True)[7])
            lines = screen.lines(colours=True)
            screen.press("q")
    TARGET.write_text(drawn(lines, str(folder)))
    print(f"written: docs/{TARGET.name}")


def dbq() -> str:
    """The command, of this checkout."""
    return f"{sys.executable} -m dbbasic_queue"


def fill(folder: Path) -> None:
    """Make the queue."""
    from dbbasic_queue import Queue

    (folder / "jobs.py").write_text(HANDLERS)
    queue = Queue(folder / "data" / "queue.tsv")
    queue.enqueue_many([("resize", {"n": n}) for n in range(12_000)])
    queue.enqueue_many([("send_mail", {"n": n}) for n in range(37)])
    queue.enqueue_many([("charge_card", {"n": n}) for n in range(4)])
    work = [*dbq().split(), "work", "jobs:HANDLERS", "--quiet", "--durability", "normal"]
    log = ["--log-file", "worker.log", "--max-attempts", "1"]
    subprocess.run([*work, *log], cwd=folder, check=True)
    queue.enqueue_many([("send_mail", {"n": n}) for n in range(3)])
    subprocess.run([*work, "--log-file", "worker.log"], cwd=folder, check=True)
    queue.pause("send_mail", why="the mail server is away")
    queue.enqueue_many([("send_mail", {"n": n}) for n in range(214)])
    queue.enqueue("render_report", {"page": 4})
    queue.enqueue("sync_stock", {})
    queue.enqueue("render_report", {"page": 0}, time.time() + 7200)


@contextmanager
def working(folder: Path) -> Iterator[None]:
    """Two jobs run meanwhile."""
    command = [*dbq().split(), "work", "jobs:HANDLERS", "--concurrency", "2", "--quiet"]
    worker = subprocess.Popen([*command, "--linger", "1min"], cwd=folder)
    try:
        yield
    finally:
        (folder / "enough").touch()
        worker.terminate()
        worker.wait()


def drawn(lines: list[str], folder: str) -> str:
    """The picture, in SVG; the folder's name is one that a reader knows."""
    lines = [line.replace(folder, "/srv/shop") for line in lines]
    lines[0] = _widened(lines[0], len(folder) - len("/srv/shop"))
    width = round(COLUMNS * picture.ADVANCE + 2 * picture.MARGIN)
    height = picture.HEIGHT * len(lines) + 2 * picture.MARGIN
    rows = "\n".join(row(number, line) for number, line in enumerate(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="dbq top: a queue at work">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>\n'
        "<style>text { white-space: pre }</style>\n"
        f'<g style="{picture.STYLE}" xml:space="preserve">\n{rows}\n</g>\n</svg>\n'
    )


def _widened(line: str, by: int) -> str:
    """The first line, whose address is shorter now, as wide as it was."""
    address, spaces, rest = re.split(r"( {2,})", line, maxsplit=1)
    return address + spaces + " " * by + rest


def row(number: int, line: str) -> str:
    """One line of the terminal: a bar behind it if it is the chosen one, and its text."""
    top = picture.MARGIN + picture.HEIGHT * number
    text, chosen = "", False
    column = 0
    style: set[str] = set()
    pieces = SGR.split(line)
    for code, part in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        style = _styled(style, code)
        chosen = chosen or "7" in style
        if part:
            x = picture.MARGIN + picture.ADVANCE * column
            # As wide as its columns, whatever font the reader has: else what is below it is askew.
            wide = f'textLength="{picture.ADVANCE * len(part):.1f}" lengthAdjust="spacing"'
            text += f'<tspan x="{x:.1f}" {wide} {_look(style)}>{escape(part)}</tspan>'
        column += len(part)
    bar = ""
    if chosen:
        width = picture.ADVANCE * COLUMNS
        bar = (
            f'<rect x="{picture.MARGIN}" y="{top}" width="{width:.0f}"'
            f' height="{picture.HEIGHT}" fill="{picture.COLOURS[""]}"/>'
        )
    return f'{bar}<text y="{top + 15}">{text}</text>'


def _styled(style: set[str], code: str) -> set[str]:
    """The codes that hold after an escape sequence."""
    for each in code.split(";"):
        if each in ("", "0"):
            style = set()
        elif each == "39":
            style = {known for known in style if len(known) == 1}
        elif each.startswith("3"):
            style = {known for known in style if len(known) == 1} | {each}
        elif each != "49":
            style = style | {each}
    return style


def _look(style: set[str]) -> str:
    colour = next((each for each in style if len(each) == 2), "2" if "2" in style else "")
    if not colour and "1" in style:
        colour = "1"
    fill = "#161b22" if "7" in style else picture.COLOURS[colour]
    weight = ' font-weight="bold"' if "1" in style else ""
    line = ' text-decoration="underline"' if "4" in style else ""
    return f'fill="{fill}"{weight}{line}'


if __name__ == "__main__":
    os.environ.pop("NO_COLOR", None)
    main()
