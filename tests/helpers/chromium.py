"""Debian's Chromium, driven by Playwright, and all that a page in it does: for tests/screens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # only `make screens` installs it
    from playwright.sync_api import Page

ROOT: Final = Path(__file__).resolve().parents[2]
AXE = ROOT / ".cache/screens/node_modules/axe-core/axe.min.js"
SHOTS = ROOT / "dist/screens"
# Root has no sandbox, and the others keep Chromium from asking its own hosts for what is new.
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "telephone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "telephone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


def program() -> str:
    """The browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "there is no chromium: make screens installs Debian's"
    return found


class Watched:
    """A page of the browser; what it asks for and complains of is kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))

    def violations(self) -> list[str]:
        """What axe-core finds wrong, each rule with the first element that breaks it."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run(document)")["violations"]
        return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in found]

    def is_wider_than_the_window(self) -> bool:
        """Whether a person has to scroll sideways."""
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.page.evaluate(wide))

    def keep(self, name: str) -> None:
        """Take a picture of all of it, to be looked at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
