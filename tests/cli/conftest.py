"""The application that the commands are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_app import JOBS


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with handlers in `jobs.py`, in which `dbq` is run."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path
