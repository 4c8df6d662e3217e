"""The report with buttons, as a plain WSGI callable (PEP 3333).

It has one address and no script: a click is a form, which comes back to the page. What a click has
done stands in a cookie until it is shown, so that to load the page again does nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

from ..errors import QueueError
from .acts import Act, perform
from .guard import COOKIE, Asked, Guard, is_own_click, new_token
from .reading import Reader
from .report import Buttons, report
from .words import clean

log = logging.getLogger("dbbasic_queue")

FORM: Final = "application/x-www-form-urlencoded"
SAID: Final = "dbq-said"  # the cookie with what was done
MOST: Final = 300  # characters of it: as escapes, they fit the 4096 bytes that a cookie may have
LARGEST: Final = 1 << 16  # bytes of a form
HEADERS: Final = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'",
    ),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Page:
    """The page of one queue.

    Args:
        reader: reads it for each look.
        guard: who may look.
        acts: what may be done; nothing makes a page that only shows.
        why: why nothing may be done, in a sentence.
        payloads: whether payloads are shown.
    """

    def __init__(
        self,
        reader: Reader,
        guard: Guard,
        acts: Mapping[str, Act],
        *,
        why: str = "",
        payloads: bool = False,
    ) -> None:
        self._reader = reader
        self._guard = guard
        self._acts = acts
        self._why = why
        self._payloads = payloads

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request as WSGI has it."""
        answer = self.answer(asked_by_wsgi(environ))
        phrase = HTTPStatus(answer.status).phrase
        start_response(f"{answer.status} {phrase}", list(answer.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def answer(self, asked: Asked) -> Answer:
        """Answer a request: show the page, or do what a click says and lead back to it."""
        refusal = self._guard.refusal(asked)
        if refusal is not None:
            status, why = refusal
            more = (("WWW-Authenticate", 'Basic realm="dbq", charset="UTF-8"'),)
            return _plain(status, why, *(more if status == HTTPStatus.UNAUTHORIZED else ()))
        if asked.path not in ("", "/"):
            return _plain(HTTPStatus.NOT_FOUND, "There is only one page here.")
        if asked.method == "POST":
            return self._do(asked)
        if asked.method not in ("GET", "HEAD"):
            return _plain(
                HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and POST.", ("Allow", "GET, POST")
            )
        return self._show(asked)

    def _do(self, asked: Asked) -> Answer:
        if not is_own_click(asked):
            return _plain(
                HTTPStatus.FORBIDDEN, "This was not sent by the page itself. Load it again."
            )
        try:
            said = perform(self._acts, asked.form)
        except KeyError:
            return _plain(HTTPStatus.FORBIDDEN, "This cannot be done here.")
        log.info("page: %s", said, extra={"event": "page"})
        return _plain(
            HTTPStatus.SEE_OTHER,
            said,
            ("Location", asked.home),
            _cookie(SAID, quote(clean(said, MOST)), asked.home),
        )

    def _show(self, asked: Asked) -> Answer:
        token = asked.cookies.get(COOKIE, "")
        if len(token) < len(new_token()) or not token.replace("-", "").replace("_", "").isalnum():
            token = new_token()
        try:
            reading = self._reader.read()
        except QueueError as error:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, f"The queue cannot be read: {error}")
        html = report(
            reading,
            self._reader.advice,
            payloads=self._payloads,
            page=Buttons(asked.home, token, frozenset(self._acts), self._why),
            said=unquote(asked.cookies.get(SAID, "")),
        )
        headers = [("Content-Type", "text/html; charset=utf-8"), _cookie(COOKIE, token, asked.home)]
        if SAID in asked.cookies:
            name, value = _cookie(SAID, "", asked.home)
            headers.append((name, f"{value}; Max-Age=0"))
        return _answer(HTTPStatus.OK, html.encode(), *headers)


def asked_by_wsgi(environ: Mapping[str, Any]) -> Asked:
    """Return a request of WSGI's.

    A form that is too long, is not one, or does not come to its end counts as empty.
    """
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    form: dict[str, str] = {}
    if environ["REQUEST_METHOD"] == "POST":
        length = str(environ.get("CONTENT_LENGTH") or "0")
        kind = str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip()
        # A number of thousands of digits is one that Python does not read.
        if length.isdecimal() and len(length) < 10 and int(length) <= LARGEST and kind == FORM:
            with suppress(OSError):  # the browser is gone, or silent for too long
                form = form_of(environ["wsgi.input"].read(int(length)))
    return Asked(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", ""),
        home=quote(environ.get("SCRIPT_NAME", "")) or "/",
        client=environ.get("REMOTE_ADDR", ""),
        headers=headers,
        cookies=cookies_of(headers.get("cookie", "")),
        form=form,
    )


def form_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def cookies_of(text: str) -> dict[str, str]:
    """Return the cookies of a header, none if it cannot be read.

    >>> cookies_of("dbq=abc; other=1")["dbq"]
    'abc'
    """
    try:
        return {name: each.value for name, each in SimpleCookie(text).items()}
    except CookieError:
        return {}


def _cookie(name: str, value: str, path: str) -> tuple[str, str]:
    return "Set-Cookie", f"{name}={value}; Path={path}; HttpOnly; SameSite=Strict"


def _plain(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return _answer(status, f"{text}\n".encode(errors="replace"), kind, *headers)


def _answer(status: int, body: bytes, *headers: tuple[str, str]) -> Answer:
    return Answer(int(status), (*HEADERS, *headers, ("Content-Length", str(len(body)))), body)
