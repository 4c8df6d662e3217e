"""The address of a queue on a server."""

from __future__ import annotations

import copy
import pickle

import pytest

from dbbasic_queue import ConfigError, Queue, Unsupported

pytest.importorskip("rq")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://10.0.0.5", "redis://10.0.0.5"),
        ("redis://:secret@10.0.0.5:6380/3?name=shop", "redis://10.0.0.5:6380/3?name=shop"),
        ("rediss://joe:secret@host/0?ssl_cert_reqs=none", "rediss://joe@host/0?ssl_cert_reqs=none"),
        ("valkey://host/0?name=dbq", "valkey://host/0"),
        ("unix://:secret@/run/redis.sock?db=2&name=a-b", "unix:///run/redis.sock?db=2&name=a-b"),
        ("redis://host?password=secret", "redis://host"),
        ("redis://host?password=se@cret", "redis://host"),
        ("unix:///run/user@5/redis.sock", "unix:///run/user@5/redis.sock"),
        ("unix://:secret@/run/user@5/redis.sock", "unix:///run/user@5/redis.sock"),
    ],
)
def test_what_is_shown_of_an_address_has_no_password(address: str, shown: str) -> None:
    """In messages, logs and `repr`; a copy reaches the server all the same."""
    queue = Queue(address)
    assert queue.engine.url == shown
    assert repr(queue) == f"Queue({shown!r})"
    assert copy.copy(queue).engine.url == shown
    again = pickle.loads(pickle.dumps(queue))
    assert again._address == address
    assert queue.engine.path is None
    with pytest.raises(Unsupported, match="not in a file"):
        _ = queue.path


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("redis://:secret@host/0?name=Big_Shop", "name 'Big_Shop': must be 1 to 32"),
        ("redis:///0", "names no host"),
        ("redis://:secret@host:port/0", "the port is not a number"),
        ("unix://:secret@run", "names no socket"),
        ("redis://:secret@host/0?nonsense=1", "no option nonsense; .* name, db"),
        ("redis://:secret@host/x", "the database 'x' is not a number"),
        ("redis://:xx/secret@host/0", "write / as %2F"),
        ("redis://:xx#secret@host/0", "write / as %2F"),
        ("redis://:xx?secret@host/0", "write / as %2F"),
        ("redis://:x[secret@host/0", "Invalid IPv6 URL"),
        ("redis://:x@y/secret@host/0", "write / as %2F"),
        ("redis://:x@y#secret@host/0", "write / as %2F"),
        ("redis://:x?y=secret@host/0", "write / as %2F"),
        ("redis://:x@y?y=secret@host/0", "write / as %2F"),
        ("unix://:x@y/secret@/run/redis.sock", "write / as %2F"),
        ("redis://host/0?pass=secret", "no option pass;"),
        ("redis://:secret@host/0?ssl_ca_certs=/ca", "ssl_ca_certs is for TLS: write rediss://"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS"),
        ("rediss://:secret@host/0?ssl_keyfile=/key", "belongs to an ssl_certfile"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(address: str, fault: str) -> None:
    """In words, before any server is asked, and without the password."""
    with pytest.raises(ConfigError, match=fault) as caught:
        Queue(address)
    assert "secret" not in str(caught.value)


def test_a_clock_is_refused() -> None:
    """All machines go by the server's, and the refusal says what to do instead."""
    with pytest.raises(Unsupported, match="leave clock= out, or test with a queue in a file"):
        Queue("redis://:secret@host/0", clock=lambda: 5)


def test_options_that_make_no_sense_are_refused() -> None:
    """As for a file."""
    with pytest.raises(ValueError, match="durability 'fast'"):
        Queue("redis://host", "fast")
