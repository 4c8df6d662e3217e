"""The lines of the keys in a TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.config.toml_lines import KeyPath, key_lines, line_of, unread_line

TRICKY = '''\
# [queue]
# file = "commented"
text = """
[queue]
file = "in a string"
"""   # [worker]
raw = \'\'\'
[[recurring]]
name = "in a raw string"
\'\'\'
one = "[queue] # file = 1" # [queue]
"quoted key" = "]"
site."a.b".'c "d"' = 1

[queue] # [worker]
file = "a.tsv"
list = [
  "[worker]",   # schedule = 5
  [1,
   2], # ]
  """
  file = 3
  """,
]

[ worker . environment ]
A = "1"

[[recurring]]
name = "first"

[recurring.payload]
deep = { of = { it = [1, 2] } }

[[recurring]]
payload.report.kind = "sales"
[[recurring.notes]]
at = 1
[[recurring.notes]]
at = 2
'''


def test_tricky_text() -> None:
    """Strings, comments, dotted and quoted keys, arrays and tables of all kinds are told apart."""
    lines = key_lines(TRICKY)
    expected: dict[KeyPath, int] = {
        ("text",): 3,
        ("raw",): 7,
        ("one",): 11,
        ("quoted key",): 12,
        ("site",): 13,
        ("site", "a.b"): 13,
        ("site", "a.b", 'c "d"'): 13,
        ("queue",): 15,
        ("queue", "file"): 16,
        ("queue", "list"): 17,
        ("queue", "list", 0): 18,
        ("queue", "list", 1): 20,
        ("queue", "list", 2): 23,
        ("worker",): 26,
        ("worker", "environment"): 26,
        ("worker", "environment", "A"): 27,
        ("recurring",): 29,
        ("recurring", 0): 29,
        ("recurring", 0, "name"): 30,
        ("recurring", 0, "payload"): 32,
        ("recurring", 0, "payload", "deep", "of", "it"): 33,
        ("recurring", 1): 35,
        ("recurring", 1, "payload", "report", "kind"): 36,
        ("recurring", 1, "notes", 0, "at"): 38,
        ("recurring", 1, "notes", 1): 39,
        ("recurring", 1, "notes", 1, "at"): 40,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_windows_line_ends() -> None:
    """A file with CR LF has the same lines."""
    assert key_lines(TRICKY.replace("\n", "\r\n")) == key_lines(TRICKY)


def test_inline_array_of_tables() -> None:
    """Tables of an inline array are found on the lines that they stand on."""
    lines = key_lines('recurring = [\n  { name = "a" },\n  # { name = "x" },\n  { name = "b" },\n]')
    assert lines["recurring",] == 1
    assert lines["recurring", 0, "name"] == 2
    assert lines["recurring", 1, "name"] == 4


def test_line_of_what_is_missing() -> None:
    """What is not there is told at the table that it would stand in, else at the first line."""
    lines = key_lines("\n[queue]\nfile = 1")
    assert line_of(lines, ("queue", "durability")) == 2
    assert line_of(lines, ("worker", "handlers")) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a = 1\n# b\n\nb = "x', 4),
        ("a = 1\nb = [\n1,\n2,\n", 2),
        ('a = 1\nb = """\nc = 1\nd = 2\n', 2),
        ("a = 1\n\nb = 1" + "0" * 5000 + "\nc = 2", 3),
        ("\nb = " + "[" * 5000, 2),
        ("", 1),
    ],
)
def test_unread_line(text: str, line: int) -> None:
    """A string or array without an end, and a value Python refuses, are told where they begin."""
    assert unread_line(text) == line


# --- texts whose lines are known because they are put together here ------------------------------

WORDS = st.text(st.sampled_from("abc-_ #[]=.\"'\\\n\té"), max_size=12)
BARE = st.text(st.sampled_from("abcdef-_019"), min_size=1, max_size=6)


def _basic(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _long(text: str) -> str:
    return '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'


KEYS = st.one_of(BARE, WORDS.map(_basic))
VALUES = st.one_of(
    WORDS.map(_basic),
    WORDS.map(_long),
    st.integers(-9, 9).map(str),
    st.lists(WORDS.map(_long), max_size=3).map(lambda items: "[ # [x]\n" + ",\n".join(items) + "]"),
    st.tuples(KEYS, WORDS.map(_basic)).map(lambda pair: f"{{ {pair[0]} = {pair[1]} }}"),
)
NOISE = st.sampled_from(["", "\n", "# [a]\n", "  # b = 1\n\n"])


@given(st.lists(st.tuples(NOISE, st.lists(KEYS, min_size=1, max_size=3), VALUES), max_size=6),
       st.lists(st.tuples(NOISE, KEYS, st.booleans()), max_size=4))  # fmt: skip
def test_made_up_texts(statements: list[Any], tables: list[Any]) -> None:
    """Every key of a random text is found on the line that it was put on."""
    text = ""
    expected: dict[KeyPath, int] = {}
    arrays: dict[str, int] = {}
    prefix: KeyPath = ()
    for noise, table, is_array in [("", None, False), *tables]:
        if table is not None:
            header = f"{noise}[[{table}]]\n" if is_array else f"{noise}[{table}]\n"
            if not _is_valid(text + header):
                continue
            name = next(iter(tomllib.loads(f"{table} = 1")))
            arrays[name] = arrays.get(name, -1) + 1
            prefix = (name, arrays[name]) if is_array else (name,)
            expected[prefix] = text.count("\n") + noise.count("\n") + 1
            text += header
        for noise, keys, value in statements:
            statement = f"{noise}{'.'.join(keys)} = {value} # c = 1\n"
            if not _is_valid(text + statement):
                continue
            path = prefix + tuple(next(iter(tomllib.loads(f"{key} = 1"))) for key in keys)
            expected[path] = text.count("\n") + noise.count("\n") + 1
            text += statement
    lines = key_lines(text)
    assert {path: lines.get(path) for path in expected} == expected
    assert set(_paths(tomllib.loads(text))) == set(lines)


def _is_valid(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    children: Any = value.items() if isinstance(value, dict) else []
    children = enumerate(value) if isinstance(value, list) else children
    found = [path] if path else []
    for key, child in children:
        found += _paths(child, (*path, key))
    return found
