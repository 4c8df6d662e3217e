"""Addresses: told apart, named, and shown without their passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.support.address import has_password, is_url, masked, scheme_of, with_name


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://10.0.0.5/0", "redis://10.0.0.5/0"),
        ("redis://shop@10.0.0.5/0", "redis://shop@10.0.0.5/0"),
        ("redis://:secret@10.0.0.5/0", "redis://:***@10.0.0.5/0"),
        ("redis://:se@cr/et@h/0", "redis://:***@h/0"),
        ("redis://:se?cr=et@h/0", "redis://:***@h/0"),
        ("redis://h/0?password=se@cret", "redis://h/0?password=***"),
        ("redis://:se@cret@h/0", "redis://:***@h/0"),
        ("redis://:se/cret@h/0", "redis://:***@h/0"),
        ("redis://:se#cret?@h/0", "redis://:***@h/0"),
        ("unix:///run/r.sock?password=secret&name=a", "unix:///run/r.sock?password=***&name=a"),
        ("data/a:secret@b.tsv", "data/a:secret@b.tsv"),
        ("file:///srv/a:b@c.tsv", "file:///srv/a:b@c.tsv"),
    ],
)
def test_what_is_shown(address: str, shown: str) -> None:
    """User and host are shown, a password is not, however it is written; a path is as it is."""
    assert masked(address) == shown
    assert has_password(address) == (shown != address)


@given(st.text(st.characters(categories=["L", "N"], include_characters="/#?@:%&= "), min_size=1))
def test_no_password_is_shown(password: str) -> None:
    """Whatever stands between the first colon and the last @ is hidden."""
    address = f"redis://shop:X{password}X@host.example/0"
    assert f"X{password}X" not in masked(address)
    assert masked(address).startswith("redis://shop:***@")


def test_what_a_server_is() -> None:
    """A scheme and // make a URL; a file's is a path in other words."""
    assert (scheme_of("Valkey://h"), scheme_of("unix:///s")) == ("valkey", "unix")
    assert scheme_of("redis:queue.tsv") is None
    assert (scheme_of("file:///a.tsv"), is_url("file:///a.tsv")) == (None, True)
    assert not is_url("a/b.tsv")


def test_a_queue_is_named_once() -> None:
    """A name in the address wins; other options stay; a path has none."""
    assert with_name("redis://h/0", "shop") == "redis://h/0?name=shop"
    assert with_name("unix:///s?db=1", "shop") == "unix:///s?db=1&name=shop"
    assert with_name("redis://h/0?name=a", "shop") == "redis://h/0?name=a"
    assert with_name("a.tsv", "shop") == "a.tsv"
