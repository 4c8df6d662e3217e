"""Find a template and fill it in.

Templates are in folders of their own (`cron/`, `systemd/`, `views/`, `packaging/logrotate/`): at
the top of a checkout, below `dbbasic_queue/templates` once installed from a wheel.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_PACKAGE = Path(__file__).resolve().parents[1]


def template_folder() -> Path:
    """The folder in which `cron/`, `systemd/` and the others are found."""
    installed = _PACKAGE / "templates"
    return installed if installed.is_dir() else _PACKAGE.parent


def fill(template: str, **values: object) -> str:
    """The template filled in.

    Nothing is escaped here: what a value may hold depends on where it stands, so the caller
    quotes.

    Args:
        template: path below `template_folder()`.
        values: what the template names; to leave one out is an error (`jinja2.UndefinedError`).

    Example:
        fill("cron/cron.d.j2", name="myapp", ...)
    """
    return _environment().get_template(template).render(**values)


def render(template: str, **values: object) -> bytes:
    """The template filled in, as bytes; those of a path that are not UTF-8 come out as they are."""
    return fill(template, **values).encode("utf-8", "surrogateescape")


@cache
def _environment() -> Environment:
    # A template that was used once is not looked at again: by then the installer may have become
    # a user who has no permission to read it.
    return Environment(
        loader=FileSystemLoader(template_folder()),
        undefined=StrictUndefined,
        autoescape=False,
        auto_reload=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
