"""The page for dbbasic-web: its requests, and who is logged in by dbbasic-accounts.

A handler gets the request as a mapping and returns a status, headers and parts of the body. Where
dbbasic-accounts is installed, only a user who is logged in is answered; otherwise it is as with
`dbq serve`: a process of this machine, or one with a password. Both hold while dbbasic-sessions
signs with the key that it is published with, by which anyone can make a session of any user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .serve import page

if TYPE_CHECKING:
    from ..views.guard import Asked

PUBLISHED: Final = "CHANGE-ME-IN-PRODUCTION"  # the key of dbbasic-sessions without $SECRET_KEY

Answered = tuple[int, list[tuple[str, str]], list[bytes]]


def GET(request: Any) -> Answered:
    """Show the page."""
    return _answer(request)


def POST(request: Any) -> Answered:
    """Do what a click on the page says."""
    return _answer(request)


def _answer(request: Any) -> Answered:
    try:
        from dbbasic_accounts import Accounts
    except ImportError:
        known = False
    else:
        _, refusal = request.require_auth(Accounts())
        if refusal is not None:
            answered: Answered = refusal
            return answered
        known = _signs_by_a_secret()
    answer = page().answer(asked_by_dbbasic(request, known))
    return answer.status, list(answer.headers), [answer.body]


def _signs_by_a_secret() -> bool:
    import dbbasic_sessions  # by which dbbasic-web has just found out who is logged in

    return bool(dbbasic_sessions.SECRET != PUBLISHED)


def asked_by_dbbasic(request: Mapping[str, Any], known: bool) -> Asked:
    """Return a request of dbbasic-web's.

    Args:
        request: with the keys method, path, headers, body, scope.
        known: whether the person is logged in.
    """
    from ..views.guard import Asked
    from ..views.page import FORM, LARGEST, cookies_of, form_of

    headers: dict[str, str] = {}
    for name, value in request["headers"]:
        headers[_text(name).lower()] = _text(value)
    body = request["body"] if len(request["body"]) <= LARGEST else b""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    client = request["scope"].get("client") or ("", 0)
    return Asked(
        method=request["method"],
        path="",
        home="/" + request["path"].strip("/"),  # and not //, after which a host is meant
        client=client[0],
        headers=headers,
        cookies=cookies_of(headers.get("cookie", "")),
        form=form_of(body) if kind == FORM else {},
        known=known,
    )


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
