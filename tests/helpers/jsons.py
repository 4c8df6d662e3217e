"""Values and texts as awkward as JSON and Python allow, for property tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from specimens import AWKWARD

FORBIDDEN = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}

hostile = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Zs", "Cf", "Po", "So"])),
    st.lists(st.sampled_from(AWKWARD), max_size=5).map("".join),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=6,
)


def wire(value: Any) -> Any:
    """A value after a journey through JSON: tuples are lists, pairs of surrogates are joined."""
    return json.loads(json.dumps(value))
