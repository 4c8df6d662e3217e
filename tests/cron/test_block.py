"""The block editor: whatever else is in the crontab comes through byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.cron.block import block_names, cut_block, find_block, markers, put_block
from dbbasic_queue.errors import InstallError


def block(name: str, body: bytes = b"* * * * * true\n") -> bytes:
    first, last = markers(name)
    return first + b"\n" + body + last + b"\n"


MYAPP = block("myapp")
LOOKALIKES = [
    b"#BEGIN dbbasic-queue myapp",
    b"# BEGIN dbbasic-queue myapp2",
    b"# BEGIN dbbasic-queue my",
    b"# BEGIN dbbasic-queue myapp #",
    b"## BEGIN dbbasic-queue myapp",
    b"# begin dbbasic-queue myapp",
    b"# END dbbasic-queue",
    b"echo '# END dbbasic-queue myapp'",
    b"# BEGIN dbbasic-queue myapp\xff",
    block("other").rstrip(b"\n"),
    block("myapp-2").rstrip(b"\n"),
]
odd_lines = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([*LOOKALIKES, b"", b" ", b"\t# x", b"MAILTO=root", b"not a crontab line"]),
)
foreign = st.builds(
    lambda lines, end, last: end.join(lines) + last,
    st.lists(odd_lines, max_size=8),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"\n", b"\r\n", b"", b"\n\n\n"]),
)


@given(foreign)
def test_foreign_text_survives_install_change_and_removal(text: bytes) -> None:
    """Any bytes around the block are the same after install, change and removal."""
    installed = put_block(text, "myapp", MYAPP)
    assert find_block(installed, "myapp") == MYAPP
    changed = put_block(installed, "myapp", block("myapp", b"1 2 3 4 5 other\n"))
    assert changed.replace(b"1 2 3 4 5 other\n", b"* * * * * true\n", 1) == installed
    assert cut_block(changed, "myapp") == text


@given(foreign, foreign)
def test_a_block_in_the_middle_is_changed_where_it_stands(above: bytes, below: bytes) -> None:
    """Text that was written above the block stays above it."""
    above = above if above.endswith(b"\n") or not above else above + b"\n"
    text = above + MYAPP + below
    longer = block("myapp", b"# more\n" * 3)
    assert put_block(text, "myapp", longer) == above + longer + below
    assert cut_block(text, "myapp") == above + below


@given(st.binary(max_size=200), st.lists(st.sampled_from(markers("myapp")), max_size=3))
def test_real_markers_in_any_disorder_are_refused_or_exact(
    noise: bytes, lines: list[bytes]
) -> None:
    """Whatever markers a crontab holds, it is refused whole or nothing outside them changes."""
    text = b"\n".join([noise, *lines, noise])
    try:
        span = find_block(text, "myapp")
    except InstallError:
        with pytest.raises(InstallError):
            put_block(text, "myapp", MYAPP)
        with pytest.raises(InstallError):
            cut_block(text, "myapp")
        return
    assert cut_block(text, "myapp") == (text.replace(span, b"", 1) if span else text)


@pytest.mark.parametrize("line", LOOKALIKES)
def test_what_only_looks_like_a_marker_is_foreign(line: bytes) -> None:
    """A line is a marker only if it is the marker's line whole."""
    assert find_block(line + b"\n", "myapp") is None


@pytest.mark.parametrize("ends", [b"\r\n", b" \n", b"\t\r\n"])
def test_a_marker_with_changed_line_ends_is_refused(ends: bytes) -> None:
    """A block whose line ends an editor changed is not taken for none, which would double it."""
    text = MYAPP.replace(b"\n", ends)
    with pytest.raises(InstallError, match="line 1 of the crontab"):
        put_block(text, "myapp", MYAPP)


@pytest.mark.parametrize(
    "text",
    [
        markers("myapp")[0] + b"\n",
        markers("myapp")[1] + b"\n",
        MYAPP + MYAPP,
        markers("myapp")[1] + b"\n" + markers("myapp")[0] + b"\n",
    ],
)
def test_damaged_markers_are_named_with_their_lines(text: bytes) -> None:
    """Half a block, two blocks or a reversed one is an error that says where."""
    with pytest.raises(InstallError, match=r"line \d: # (BEGIN|END) dbbasic-queue myapp"):
        put_block(text, "myapp", MYAPP)


def test_two_names_stand_side_by_side() -> None:
    """Blocks of two configs are independent: each comes and goes without touching the other."""
    both = put_block(put_block(b"@daily x\n", "myapp", MYAPP), "other", block("other"))
    assert block_names(both) == ["other", "myapp"]
    assert cut_block(both, "myapp") == put_block(b"@daily x\n", "other", block("other"))
    assert cut_block(both, "other") == put_block(b"@daily x\n", "myapp", MYAPP)


def test_a_block_without_its_markers_is_not_put_in() -> None:
    """What could not be found again is never written."""
    with pytest.raises(ValueError, match="not a block"):
        put_block(b"", "myapp", b"* * * * * true\n")
