"""A browser that is told of everything that a page does: `make screens` installs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chromium import LOOKS, OPTIONS, Watched, program
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program(), args=OPTIONS)
        yield started
        started.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Open pages as `LOOKS` has them; each is a person's of its own."""
    opened = []

    def open_one(look: str = "light", **settings: Any) -> Watched:
        context = browser.new_context(**LOOKS[look], **settings)
        opened.append(context)
        return Watched(context.new_page())

    yield open_one
    for context in opened:
        context.close()
