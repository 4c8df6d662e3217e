"""What the health check tells others by itself: pings, and a file for node_exporter.

Pings are in the style of healthchecks.io: a service outside this machine alarms a person when the
check fails, or when nothing has come for longer than the service was told to expect. The rules are
those of its Pinging API: a request to the URL itself means success, to `URL/start` that a run has
begun, to `URL/fail` that it failed.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ..support.child import ChildDied, ChildTimeout, call
from ..support.files import NewFile, read_regular, refusing, replace
from ..version import VERSION

START: Final = "start"
SUCCESS: Final = "success"
FAILURE: Final = "failure"

SECONDS: Final = 2.0  # that a ping may take, the name's resolution included
LARGEST: Final = 1 << 20  # bytes of a textfile
CONTACT: Final = "dbq_engine_last_contact_timestamp_seconds"
_SUFFIXES: Final = {START: "/start", SUCCESS: "", FAILURE: "/fail"}
_MODE: Final = 0o644  # of the textfile: the collector runs as another user

log = logging.getLogger("dbbasic_queue")


def ping(url: str, kind: str, text: str = "", *, seconds: float = SECONDS) -> bool:
    """Send one ping; returns whether it arrived. Never raises for one that does not.

    Args:
        url: http or https, without the suffix for the kind.
        kind: "start", "success" or "failure".
        text: what to send along; the service shows it beside the ping, so mind what it tells.
        seconds: that the ping may take in all.

    A ping that fails is logged with the host's name, never with the whole URL, which is a secret.
    Raises `ValueError` for another kind or a URL that is neither http nor https.

    >>> ping("http://127.0.0.1:9/abc", "start")  # no service listens there
    False
    """
    target = address(url, kind)
    # Slow to import, so not at the top, as most runs send no ping; and not in the child, whose time
    # is for the network.
    importlib.import_module("urllib.request")
    try:
        fault = call(lambda: _send(target, text), seconds)
    except ChildTimeout:
        fault = f"no answer within {seconds:g} s"
    except ChildDied as error:
        fault = f"the process that sent it {error}"
    if fault:
        host = urlsplit(url).hostname
        log.warning("the %s ping to %s failed: %s", kind, host, fault, extra={"event": "ping"})
    return not fault


def address(url: str, kind: str) -> str:
    """Return where a ping of this kind goes: the suffix stands before a query.

    Raises `ValueError`.

    >>> address("https://hc.example/abc/?create=1", "failure")
    'https://hc.example/abc/fail?create=1'
    """
    if kind not in _SUFFIXES:
        raise ValueError(f"kind {kind!r}: must be one of {', '.join(_SUFFIXES)}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the ping URL must begin with http:// or https:// and name a host")
    suffix = _SUFFIXES[kind]
    path = parts.path.rstrip("/") + suffix if suffix else parts.path
    return urlunsplit(parts._replace(path=path, fragment=""))


def _send(url: str, text: str) -> str:
    """Make the request; return what went wrong, or an empty text. Runs in a child process."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    body = text.encode("utf-8", "backslashreplace") if text else None
    headers = {"User-Agent": f"dbbasic-queue/{VERSION}"}
    if body:
        headers["Content-Type"] = "text/plain; charset=utf-8"
    try:
        with urlopen(Request(url, body, headers)) as answer:
            answer.read(1024)
    except HTTPError as error:
        return f"HTTP {error.code} {error.reason}"
    except URLError as error:
        return str(error.reason)
    except (OSError, HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def last_contact(path: Path) -> int | None:
    """Return when a queue's server was last reached, by the textfile of the check before.

    None if the file does not tell, or cannot be read.
    """
    try:
        text = read_regular(path, LARGEST).decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(rf"^{CONTACT}\{{[^\n]*\}} ([0-9]{{1,12}})$", text, re.MULTILINE)
    return int(found[1]) if found else None


def write_textfile(path: Path, text: str) -> None:
    """Put `text` into the file at `path`, readable by all users whatever the umask.

    It is written to a temporary file in the same folder, whose name does not end in `.prom` (the
    collector reads all that do), and renamed. Raises `StorageError`; the file is as before then.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "dbq.prom"
    >>> write_textfile(path, "dbq_up 1\\n")
    >>> path.read_text()
    'dbq_up 1\\n'
    """
    with refusing(path, "cannot write"):
        replace(NewFile(path, text.encode(), _MODE, synced=False))
