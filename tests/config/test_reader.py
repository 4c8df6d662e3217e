"""The lines of the keys in a TOML text, and what is wrong with a section."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dbbasic_queue.config.reader import KeyPath, line_of, lines

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
site."a.b".'c d' = 1

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
    found = lines(TRICKY)
    expected: dict[KeyPath, int] = {
        ("text",): 3,
        ("raw",): 7,
        ("one",): 11,
        ("quoted key",): 12,
        ("site",): 13,
        ("site", "a.b"): 13,
        ("site", "a.b", "c d"): 13,
        ("queue",): 15,
        ("queue", "file"): 16,
        ("queue", "list"): 17,
        ("worker",): 26,
        ("worker", "environment"): 26,
        ("worker", "environment", "A"): 27,
        ("recurring",): 29,
        ("recurring", 0): 29,
        ("recurring", 0, "name"): 30,
        ("recurring", 0, "payload"): 32,
        ("recurring", 0, "payload", "deep"): 33,
        ("recurring", 1): 35,
        ("recurring", 1, "payload", "report", "kind"): 36,
        ("recurring", 1, "notes", 0, "at"): 38,
        ("recurring", 1, "notes", 1): 39,
        ("recurring", 1, "notes", 1, "at"): 40,
    }
    assert {path: found.get(path) for path in expected} == expected


def test_windows_line_ends() -> None:
    """A file with CR LF has the same lines."""
    assert lines(TRICKY.replace("\n", "\r\n")) == lines(TRICKY)


def test_line_of_what_has_none() -> None:
    """A missing key, or one in an inline table, is told at what it is in, else at line 1."""
    found = lines("\n[queue]\nfile = 1\n[worker]\nenvironment = { A = 1 }\n")
    assert line_of(found, ("queue", "durability")) == 2
    assert line_of(found, ("worker", "environment", "B")) == 5
    assert line_of(found, ("health", "schedule")) == 1


# --- texts whose lines are known because they are put together here ------------------------------

WORDS = st.text(st.sampled_from("abc-_ #[]=.\"'\\\n\té"), max_size=12)
BARE = st.text(st.sampled_from("abcdef-_019"), min_size=1, max_size=6)


def _basic(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _long(text: str) -> str:
    return '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'


# No quotes and escapes: a key that has some is told at the line of what it is in.
PLAIN = st.text(st.sampled_from("abc-_ #[]=.é"), max_size=12)
KEYS = st.one_of(BARE, PLAIN.map(_basic))
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
    found = lines(text)
    assert {path: found.get(path) for path in expected} == expected


def _is_valid(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
