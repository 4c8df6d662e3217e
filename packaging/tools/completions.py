"""The completions of the packages: a file a shell and command, by its place below /usr/share."""

from __future__ import annotations

from pathlib import Path

from dbbasic_queue.cli.options import parsers
from dbbasic_queue.cli.shells import bash, fish, zsh


def files() -> dict[str, str]:
    """All completions: by their path below /usr/share, the text."""
    made = {}
    for name, parser in parsers().items():
        made[f"bash-completion/completions/{name}"] = bash(name, parser)
        made[f"zsh/vendor-completions/_{name}"] = zsh(name, parser)
        made[f"fish/vendor_completions.d/{name}.fish"] = fish(name, parser)
    return made


def write(share: Path) -> list[Path]:
    """Write all completions below `share`, a /usr/share."""
    written = []
    for name, text in files().items():
        path = share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    return written
