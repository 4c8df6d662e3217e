"""Who may see the page, and which clicks are a person's own.

Theory of operation
-------------------
Without a password or a proxy that is named, only a process of this machine is answered, and only
under a name of this machine: a page of a stranger's, whose name was made to lead to 127.0.0.1 (DNS
rebinding), asks for another `Host`. A server of this machine that says whose request it hands on is
not the one who asks.

A browser sends a form of any page to any address, with the cookies and the password that it knows.
So a click counts only if its `Origin` is the page's own, which no page can feign, and if its token
is that of its cookie, which no other page can read and, by `SameSite`, none can have sent.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import os
import secrets
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigError
from ..support.opening import ROOT, open_file, user_name

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# What a server in front says of the client whose request it hands on: RFC 7239, and before it.
HANDED_ON: Final = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
COOKIE: Final = "dbq"
LARGEST: Final = 1 << 16  # bytes of a password file


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever brought it here."""

    method: str
    path: str  # below the page
    home: str  # the page's own path, where its forms are sent
    client: str  # the address that it came from; empty for a socket without one
    headers: Mapping[str, str]  # by names in small letters
    cookies: Mapping[str, str]
    form: Mapping[str, str]
    known: bool = False  # the application that hands it over knows the person

    @property
    def host(self) -> str:
        """The name that the page was asked by, without a port, in small letters."""
        return (_split(f"//{self.headers.get('host', '')}").hostname or "").lower()


@dataclass(frozen=True, slots=True)
class Guard:
    """What a request has to bring along.

    Args:
        hosts: names that the page may be asked by, beside those of this machine.
        passwords: by name; with any, everyone has to give one.
        proxy: the address of a server in front, and the header in which it names the person; an
            empty address stands for a Unix socket.
    """

    hosts: frozenset[str] = frozenset()
    passwords: Mapping[str, str] = field(default_factory=dict)
    proxy: tuple[str, str] | None = None

    def refusal(self, asked: Asked) -> tuple[int, str] | None:
        """Why a request is not answered, with its status; None if it is."""
        if asked.known:
            return None
        if self.proxy is not None and asked.client == self.proxy[0]:
            if asked.headers.get(self.proxy[1].lower(), "").strip():
                return None
            return 403, f"The proxy has not said in {self.proxy[1]} who asks."
        if not (self.passwords or is_local(asked.client)):
            return 403, (
                "From another machine, this page takes a password file or a proxy that says who"
                " asks: see dbq serve --help."
            )
        if not self.passwords and HANDED_ON & asked.headers.keys():
            return 403, (
                "A server in front of this page has handed this on: it takes --proxy or a password"
                " file: see dbq serve --help."
            )
        if asked.host not in LOCAL_NAMES | self.hosts:
            return 403, "This page has another name: see --host of dbq serve."
        if self.passwords and not self._is_known(asked.headers.get("authorization", "")):
            return 401, "A name and a password are needed."
        return None

    def _is_known(self, login: str) -> bool:
        """Whether a header `Authorization` has a name and its password: RFC 7617."""
        scheme, _, text = login.partition(" ")
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            return False
        right = self.passwords.get(name, secrets.token_hex())  # as slow for a name that is not
        return scheme.lower() == "basic" and hmac.compare_digest(password.encode(), right.encode())


def _split(url: str) -> SplitResult:
    """The parts of a URL; none of one that cannot be, such as with half an address of IPv6."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_local(address: str) -> bool:
    """Say whether an address is one of this machine's loopback.

    >>> is_local("127.0.0.9"), is_local("::1"), is_local("10.0.0.5"), is_local("")
    (True, True, False, False)
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def new_token() -> str:
    """Return a token for a cookie and the forms that belong to it."""
    return secrets.token_urlsafe(24)


def is_own_click(asked: Asked) -> bool:
    """Whether a form was sent from the page itself: see this module's header."""
    token, cookie = asked.form.get("token", ""), asked.cookies.get(COOKIE, "")
    origin = _split(asked.headers.get("origin", ""))
    return (
        bool(origin.netloc)
        and origin.netloc.lower() == asked.headers.get("host", "").lower()
        and asked.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and len(cookie) >= len(new_token())
        and hmac.compare_digest(token.encode(), cookie.encode())
    )


def read_passwords(path: Path) -> dict[str, str]:
    """Return the passwords in a file of lines `NAME:PASSWORD`, by name.

    Raises `ConfigError` for a file that cannot be read, that another user could have written or
    can read, or that holds no such line.
    """
    try:
        fd = open_file(path, os.O_RDONLY)
        with open(fd, "rb") as stream:
            status = os.fstat(fd)
            word = shlex.quote(str(path))
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path}: it is not a regular file")
            if status.st_uid not in (ROOT, os.geteuid()):
                whose, me = user_name(status.st_uid), user_name(os.geteuid())
                raise ConfigError(f"{path}: it belongs to {whose}: chown {me} {word}")
            if status.st_mode & 0o077:
                raise ConfigError(f"{path}: other users have rights to it: chmod 0600 {word}")
            text = stream.read(LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = {name: password for name, _, password in (line.partition(":") for line in lines)}
    if not found or not all(name and len(password) >= 8 for name, password in found.items()):
        raise ConfigError(f"{path}: must hold lines NAME:PASSWORD, of 8 characters or more each")
    return found
