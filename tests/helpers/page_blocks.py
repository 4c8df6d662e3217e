"""The code blocks of the pages, and the environment in which a reader types them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The code blocks of a page, each with its language, in their order."""
    return BLOCK.findall((ROOT / page).read_text())


def environment(folder: Path) -> dict[str, str]:
    """A home of its own, and the commands of this Python first."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
