"""Templates are found in a checkout and in a wheel, and filled in without a surprise."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from dbbasic_queue.install import templates as module
from dbbasic_queue.install.templates import render, template_folder

ALL = ["cron/cron.d.j2", "cron/crontab.j2", "packaging/logrotate/logrotate.j2"]


@pytest.mark.parametrize("template", ALL)
def test_the_templates_are_there(template: str) -> None:
    """What the targets render is in the folder that the loader takes."""
    assert (template_folder() / template).is_file()


def test_an_installed_package_has_its_own_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dbbasic_queue/templates` wins where it exists; the checkout's top is used otherwise."""
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "dbbasic_queue")
    assert template_folder() == tmp_path
    (tmp_path / "dbbasic_queue/templates").mkdir(parents=True)
    assert template_folder() == tmp_path / "dbbasic_queue/templates"


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "template_folder", lambda: tmp_path)
    module._environment.cache_clear()
    monkeypatch.setattr(module, "_environment", module._environment.__wrapped__)
    return tmp_path / "x.j2"


def test_values_come_out_as_they_are(template: Path) -> None:
    """Nothing is escaped, no newline is lost, a path's bytes that are not UTF-8 stay."""
    template.write_text("{% if True %}\n{{ a }}\n{% endif %}\n\n")
    assert render("x.j2", a="<&> {{ b }} \udcff") == b"<&> {{ b }} \xff\n\n"


def test_a_forgotten_value_is_an_error(template: Path) -> None:
    """A template never comes out with a hole in it."""
    template.write_text("{{ a }}")
    with pytest.raises(jinja2.UndefinedError):
        render("x.j2")


def test_a_template_used_once_is_not_read_again(tmp_path: Path) -> None:
    """The installer may have become a user by then who cannot read it."""
    values = {"name": "n", "config": "c", "user": "u", "settings": [], "lines": []}
    first = render("cron/cron.d.j2", **values)
    source = module._environment().get_template("cron/cron.d.j2")
    assert source.is_up_to_date
    assert module._environment().auto_reload is False
    assert render("cron/cron.d.j2", **values) == first
