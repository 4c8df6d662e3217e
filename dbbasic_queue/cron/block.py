"""The block of one name in a crontab: find it, put it in, take it out. Pure functions on bytes.

Theory of operation
-------------------
A crontab belongs to its user; ours is only what stands between two whole lines that carry the
config's name and nothing else:

    # BEGIN dbbasic-queue myapp
    # END dbbasic-queue myapp

Everything else is kept byte for byte, whatever it is: it is never decoded, split into entries or
parsed. Two rules make that exact:

* A new block goes to the *top*. So it ends with its own newline whatever follows it, even a text
  without a last newline, and no setting that stands further up (`SHELL=`, `PATH=`, `MAILTO=`)
  changes what our entries mean. Nor do we change what others mean: the block holds no settings,
  each entry sets its own environment. A block that is there already is changed where it stands.
* A marker is the exact line, up to its newline. If the markers of a name do not stand as exactly
  one BEGIN before exactly one END, or a line is a marker but for blanks or a carriage return at
  its ends (an editor that changed line ends), it cannot be told what is ours: that is an error
  with the line's number, and nothing is changed.

A block of another name is foreign text like any other.
"""

from __future__ import annotations

import re

from ..errors import InstallError

_BEGIN = b"# BEGIN dbbasic-queue "
_END = b"# END dbbasic-queue "


def markers(name: str) -> tuple[bytes, bytes]:
    """The first and the last line of a block, without their newlines."""
    return _BEGIN + name.encode(), _END + name.encode()


def find_block(text: bytes, name: str) -> bytes | None:
    """The block with its markers, or None. Raises `InstallError` for damaged markers."""
    span = _span(text, name)
    return text[slice(*span)] if span else None


def put_block(text: bytes, name: str, block: bytes) -> bytes:
    """The crontab with this block, in the old one's place or at the top.

    Args:
        text: the whole crontab.
        name: the config's name.
        block: markers included, ended by a newline.

    Raises `InstallError` for damaged markers.

    Example:
        put_block(b"@daily backup\\n", "myapp", block) == block + b"@daily backup\\n"
    """
    first, last = markers(name)
    if not (block.startswith(first + b"\n") and block.endswith(b"\n" + last + b"\n")):
        raise ValueError(f"not a block of {name!r}")
    begin, end = _span(text, name) or (0, 0)
    return text[:begin] + block + text[end:]


def cut_block(text: bytes, name: str) -> bytes:
    """The crontab without the block; the same text if there is none.

    Raises `InstallError` for damaged markers.
    """
    begin, end = _span(text, name) or (0, 0)
    return text[:begin] + text[end:]


def text_above(text: bytes, name: str) -> bytes:
    """What stands above the block: its settings hold for our entries too; empty without a block.

    Raises `InstallError` for damaged markers.
    """
    begin, _ = _span(text, name) or (0, 0)
    return text[:begin]


def block_names(text: bytes) -> list[str]:
    """The names of all blocks in a crontab, in order."""
    found = re.findall(rb"^# BEGIN dbbasic-queue ([a-z][a-z0-9-]{0,31})$", text, re.MULTILINE)
    return [name.decode() for name in found]


def _span(text: bytes, name: str) -> tuple[int, int] | None:
    """Where the block begins and ends, from its first byte to past its last newline."""
    first, last = markers(name)
    begins: list[int] = []
    ends: list[int] = []
    for number, line, start in _lines(text):
        marker = line.strip(b" \t\r\v\f\n")
        if marker not in (first, last):
            continue
        if line.removesuffix(b"\n") != marker:
            raise InstallError(
                f"line {number} of the crontab is {marker.decode()!r} but for blanks or a carriage "
                "return around it. Put the line right with crontab -e. Nothing was changed"
            )
        if marker == first:
            begins.append(start)
        else:
            ends.append(start + len(line))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0] <= begins[0]:
        raise InstallError(_damage(text, name))
    return begins[0], ends[0]


def _lines(text: bytes) -> list[tuple[int, bytes, int]]:
    """Each line with its number, its newline and its offset."""
    lines, start = [], 0
    for number, line in enumerate(re.findall(rb"[^\n]*\n|[^\n]+", text), start=1):
        lines.append((number, line, start))
        start += len(line)
    return lines


def _damage(text: bytes, name: str) -> str:
    wanted = markers(name)
    places = [
        f"line {number}: {line.decode().strip()}"
        for number, line, _ in _lines(text)
        if line.removesuffix(b"\n") in wanted
    ]
    return (
        f"the markers of {name} in the crontab are not one BEGIN and then one END "
        f"({'; '.join(places)}). Put them right with crontab -e. Nothing was changed"
    )
