"""The address of a queue on a server: which server, and which queue there."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from ...errors import ConfigError
from ...support.address import masked

NAME: Final = "dbq"  # of a queue whose address names none
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
OPTIONS: Final = (
    *("db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version"),
)
_VALUES: Final = re.compile(rf"[?&](?:name|{'|'.join(OPTIONS)})=[^&#]*")
_SAME: Final = {"valkey": "redis"}  # what redis-py calls a scheme


class Address(NamedTuple):
    """Where a queue is."""

    url: str  # as redis-py reads it, with the password
    name: str  # the queue's
    shown: str  # for messages: without the password


def parse(text: str) -> Address:
    """The parts of an address. Raises `ConfigError` for one that cannot be read.

    >>> parse("valkey://:secret@10.0.0.5/0?name=shop")
    Address(url='redis://:secret@10.0.0.5/0', name='shop', shown='valkey://10.0.0.5/0?name=shop')
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:  # a bracket
        raise ConfigError(f"{masked(text)}: {error}") from None
    if _has_torn_password(text, parts):
        raise ConfigError(
            f"{masked(text)}: in a password, write / as %2F, ? as %3F and # as %23, % as %25"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    name = options.pop("name", NAME)
    user, _, place = parts.netloc.rpartition("@")
    user = user.partition(":")[0]
    public = {key: value for key, value in options.items() if key in OPTIONS and key != "password"}
    if name != NAME:
        public["name"] = name
    netloc = f"{user}@{place}" if user else place
    shown = _joined(parts.scheme, netloc, parts, public)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{shown}: name {name!r}: must be 1 to 32 of a-z, 0-9 and -, a letter first"
        )
    try:
        bad_port = parts.port == 0
    except ValueError:
        bad_port = True
    if bad_port:
        raise ConfigError(f"{shown}: the port is not a number from 1 to 65535")
    _check_options(shown, options, "" if parts.scheme == "unix" else parts.path)
    if parts.scheme != "unix" and not parts.hostname:
        raise ConfigError(f"{shown}: names no host; write for instance redis://10.0.0.5:6379/0")
    if parts.scheme == "unix" and not parts.path.startswith("/"):
        raise ConfigError(f"{shown}: names no socket; write for instance unix:///run/redis.sock")
    url = _joined(_SAME.get(parts.scheme, parts.scheme), parts.netloc, parts, options)
    return Address(url, name, shown)


def _has_torn_password(text: str, parts: SplitResult) -> bool:
    """Whether an @ stands behind the server's name, as where a password before it has a / in it.

    The path of a socket may have one, if nothing stands between that path and the password.
    """
    rest = _VALUES.sub("", text.partition("://")[2]).removeprefix(parts.netloc)
    if parts.scheme == "unix" and not parts.netloc.rpartition("@")[2]:
        rest = rest.removeprefix(parts.path)
    return "@" in rest


def _joined(scheme: str, netloc: str, parts: SplitResult, options: dict[str, str]) -> str:
    query = f"?{urlencode(options, safe='/')}" if options else ""
    return f"{scheme}://{netloc}{parts.path}{query}"


def _check_options(shown: str, options: dict[str, str], database: str) -> None:
    for option in options:
        if option not in OPTIONS:
            raise ConfigError(
                f"{shown}: there is no option {option}; those there are: name, {', '.join(OPTIONS)}"
            )
        if option.startswith("ssl_") and not shown.startswith("rediss:"):
            raise ConfigError(f"{shown}: {option} is for TLS: write rediss:// for that")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ConfigError(f"{shown}: ssl_keyfile belongs to an ssl_certfile; name that, too")
    for number in (database.strip("/"), options.get("db", "")):
        if number and not number.isdecimal():
            raise ConfigError(f"{shown}: the database {number!r} is not a number")
