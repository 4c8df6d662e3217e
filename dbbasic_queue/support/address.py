"""The address of a queue: a path, or a URL, which may hold a password that no message shows."""

from __future__ import annotations

import re
from typing import Final

_URL: Final = r"(?i)([a-z][a-z0-9+.-]*)://"
# User and password end at the last @ of all. Where a password holds a / or ? that should have been
# written %2F or %3F, no other rule finds its end: a message hides too much rather than too little.
_USER: Final = r"(?<=://)(.*)@"
_NAME: Final = r"[?&]name="
_SECRET: Final = r"(?i)([?&](?:password|passwd|secret|token)=)[^&#]*"
HIDDEN: Final = "***"


def scheme_of(address: str) -> str | None:
    """Return the scheme of a URL, in small letters; None for a path, and for `file:`.

    >>> scheme_of("redis://10.0.0.5/0"), scheme_of("data/queue.tsv")
    ('redis', None)
    """
    found = re.match(_URL, address) if ":" in address else None
    if found is None or found[1].lower() == "file":
        return None
    return found[1].lower()


def is_url(address: str) -> bool:
    """Say whether an address is a URL rather than a path.

    >>> is_url("file:data/queue.tsv"), is_url("unix:///run/redis.sock"), is_url("data/queue.tsv")
    (True, True, False)
    """
    return ":" in address and (
        re.match(_URL, address) is not None or address[:5].lower() == "file:"
    )


def masked(address: str) -> str:
    """Return an address for messages: without its password.

    >>> masked("redis://shop:secret@10.0.0.5/0?name=shop"), masked("data/a:b@c.tsv")
    ('redis://shop:***@10.0.0.5/0?name=shop', 'data/a:b@c.tsv')
    """
    if scheme_of(address) is None:
        return address
    return re.sub(_USER, _mask, re.sub(_SECRET, rf"\g<1>{HIDDEN}", address), count=1)


def _mask(found: re.Match[str]) -> str:
    """User and password, of which the password is hidden."""
    user, colon, password = found[1].partition(":")
    return f"{user}{colon}{HIDDEN if password else ''}@"


def has_password(address: str) -> bool:
    """Say whether an address holds a password.

    >>> has_password("redis://:secret@10.0.0.5/0"), has_password("redis://10.0.0.5/0")
    (True, False)
    """
    return masked(address) != address


def with_name(address: str, name: str) -> str:
    """Return the address of the queue `name` on a server, unless the address names one itself.

    >>> with_name("redis://10.0.0.5/0", "shop")
    'redis://10.0.0.5/0?name=shop'
    """
    if scheme_of(address) is None or re.search(_NAME, address):
        return address
    return f"{address}{'&' if '?' in address else '?'}name={name}"
