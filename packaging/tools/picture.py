"""`make pages`: docs/terminal.svg, the README's picture of a terminal, from commands really run.

Each command of SESSION runs in a terminal of its own (a pty), one after another in an empty folder;
what it prints, colours included, is drawn. Run it again when a command's output has changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).resolve().parents[2] / "docs" / "terminal.svg"
HANDLERS = """\
def greet(payload):
    return f"Hello {payload['name']}"


def notify(payload):
    raise ConnectionError("HTTP 503")


HANDLERS = {"greet": greet, "notify": notify}
"""
SESSION = (
    """dbq enqueue greet '{"name": "Zoë"}'""",
    """dbq enqueue notify '{"order": 17}' --id order-17""",
    "dbq work jobs:HANDLERS 2>> worker.log",
    "dbq list",
    "cut -f 1-4,7,8 data/queue.tsv",
    "dbq-health --file data/queue.tsv --format text",
)
COLUMNS = 106
ADVANCE, HEIGHT, MARGIN, BAR = 8.4, 20, 16, 32  # in pixels: a character, a line, around, on top
COLOURS = {
    "": "#d4d4d4",
    "31": "#ff7b72",
    "32": "#7ee787",
    "33": "#e3b341",
    "34": "#7fb4ff",
    "36": "#76e3ea",
    "1": "#ffffff",
    "2": "#8b949e",
}
STYLE = "font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; font-size: 14px"
SGR = re.compile(r"\x1b\[([\d;]*)m")


def main() -> None:
    """Run the session and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        TARGET.write_text(drawn(play(Path(folder))))
    print(f"written: docs/{TARGET.name}")


def play(folder: Path) -> list[str]:
    """The lines of a terminal in which the session is typed."""
    (folder / "jobs.py").write_text(HANDLERS)
    lines = []
    for command in SESSION:
        lines.append(f"\x1b[34m$\x1b[m \x1b[1m{command}\x1b[m")
        lines += typed(command, folder).expandtabs(8).splitlines()
    return lines


def typed(command: str, folder: Path) -> str:
    """What a command prints in a terminal; raises `CalledProcessError` if it fails."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (40, COLUMNS))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TZ": "UTC",
    }
    shell = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=its, stderr=its
    )
    os.close(its)
    printed = b""
    try:
        while more := os.read(ours, 65536):
            printed += more
    except OSError:  # how Linux says that the other side of a pty is closed
        pass
    os.close(ours)
    if shell.wait():
        raise subprocess.CalledProcessError(shell.returncode, command, printed)
    return printed.decode().replace("\r\n", "\n").replace(str(folder), "/srv/shop")


def drawn(lines: list[str]) -> str:
    """The picture, in SVG."""
    width = round(COLUMNS * ADVANCE + 2 * MARGIN)
    height = BAR + HEIGHT * len(lines) + MARGIN
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 20 * n}" cy="16" r="6" fill="{colour}"/>'
        for n, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{BAR + HEIGHT * (n + 1) - 5}">{spans(line)}</text>'
        for n, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="A terminal: dbq at work">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>{dots}\n'
        # Browsers differ in which of the two they go by for a text's spaces.
        "<style>text { white-space: pre }</style>\n"
        f'<g style="{STYLE}" xml:space="preserve">\n{rows}\n</g>\n</svg>\n'
    )


def spans(line: str) -> str:
    """One line of the terminal as runs of one colour each."""
    pieces = SGR.split(SGR.sub(lambda m: m[0] if m[1] != "0" else "\x1b[m", line))
    found = [(COLOURS[""], pieces[0])]
    for code, text in zip(pieces[1::2], pieces[2::2], strict=True):
        found.append((COLOURS.get(code.split(";")[-1], COLOURS[""]), text))
    return "".join(f'<tspan fill="{hue}">{escape(text)}</tspan>' for hue, text in found if text)


if __name__ == "__main__":
    main()
