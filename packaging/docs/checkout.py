"""What mkdocs needs besides docs/: the pages at the top of the checkout, and links out of docs/.

A link to a file that is not a page leads to the file in the repository; the file must be there.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
TOP = {"README.md": "index.md"} | {
    name: name for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
}
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(?=\))")
log = logging.getLogger("mkdocs.hooks.checkout")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand at the top of the checkout, the README as the first page."""
    for source, target in TOP.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return the page's text with its links as they are on the site."""
    sources = {target: source for source, target in TOP.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def here(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        return f"{match[1]}{_address(target, source, config['repo_url'])}{match[3] or ''}"

    return LINK.sub(here, markdown)


def _address(target: str, source: str, repository: str) -> str:
    """The address on the site of a file of the checkout, for a link in the file `source`."""
    if target in TOP:
        return TOP[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    path = ROOT / target
    if not path.exists():
        log.warning("%s: there is no %s in the checkout", source, target)
    return f"{repository}/{'tree' if path.is_dir() else 'blob'}/main/{target}"
