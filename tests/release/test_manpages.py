"""Man pages: each command, option, config key and exit code that there is has its place in them."""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import manpages
import pytest

from dbbasic_queue.cli import options as parsers
from dbbasic_queue.config import sections as configs

ROOT = Path(__file__).parents[2]
PAGES = manpages.pages(0)
COMMANDS = parsers.parsers()
# Not by packaging/tools: what an option looks like in the text of --help.
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def plain(page: str) -> str:
    """The page's text without requests and fonts, hyphens as they are typed."""
    lines = (re.sub(r"^\.[A-Z]+ ?", "", line) for line in page.splitlines())
    text = re.sub(r"\\f[BIRP]|\\&", "", "\n".join(lines))
    for escape, character in {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\e": "\\"}.items():
        text = text.replace(escape, character)
    return text


def helps(name: str) -> list[str]:
    """What --help of a command prints, and of each of its own commands."""
    command = COMMANDS[name]
    return [each.format_help() for each in (command, *parsers.subcommands(command).values())]


def page_of(name: str) -> str:
    text = PAGES[f"{name}.1"]
    if text.startswith(".so man1/"):
        text = PAGES[text.removeprefix(".so man1/").strip()]
    return text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_page(name: str) -> None:
    """What --help names, options and own commands, stands in the man page."""
    page = plain(page_of(name))
    for text in helps(name):
        listed = text.partition("\nexamples:")[0]
        missing = {flag for flag in FLAG.findall(listed) if flag not in page}
        assert missing == set()
    for own in parsers.subcommands(COMMANDS[name]):
        assert f"\n{name} {own}\n" in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_part_of_a_page_is_there(name: str) -> None:
    """The headings that a reader looks for, each with something below it."""
    sections = re.split(r"^\.SH ", page_of(name), flags=re.MULTILINE)[1:]
    found = dict(section.split("\n", 1) for section in sections)
    for heading in (
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES"),
        *("EXAMPLES", "SEE ALSO"),
    ):
        assert len(found[heading].split()) >= 5, heading


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_codes_are_those_of_the_help(name: str) -> None:
    """Each code that --help tells is in EXIT STATUS, with its words."""
    status = page_of(name).partition(".SH EXIT STATUS\n")[2].partition("\n.SH ")[0]
    told = plain(status).replace("\n", " ")
    found = {
        each
        for text in helps(name)
        if (each := re.split(r"^exit (?:codes|status)[^\n]*:\n", text, flags=re.MULTILINE)[-1])
        and each != text
    }
    rows = re.findall(r"^  (\d)  (.*(?:\n     .*)*)", "\n".join(sorted(found)), re.MULTILINE)
    assert rows
    for code, words in rows:
        assert f"{code} {' '.join(words.split())}" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_those_of_the_help(name: str) -> None:
    """Each example of --help is in the page as it is typed."""
    page = plain(page_of(name))
    for text in helps(name)[:1] if name != "dbq" else helps(name)[1:]:
        examples = text.partition("\nexamples:\n")[2].partition("\n\n")[0].splitlines()
        assert examples
        assert [line for line in examples if line.strip() not in page] == []


def test_every_key_of_the_config_is_in_its_page() -> None:
    """dbq.toml(5) has each section and each key that the config knows, and no other."""
    page = PAGES["dbq.toml.5"].partition("\n.SH FILES\n")[0]
    sections = re.split(r"^\.SS (\[+[\w.]+\]+)$", page, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True))
    for field in dataclasses.fields(configs.Config)[2:]:
        kind = field.metadata["part"].keys
        title = f"[[{field.name}]]" if field.name == "recurring" else f"[{field.name}]"
        if field.metadata["part"].named:
            title = f"[{field.name}.NAME]"
        keys = re.findall(r"^\.TP\n\.B ([a-z_]+)$", found.pop(title), re.MULTILINE)
        assert sorted(keys) == sorted(each.name for each in dataclasses.fields(kind))
    assert found == {}


def test_the_example_config_of_the_page_is_sound() -> None:
    """What dbq.toml(5) shows as an example is a config without a fault."""
    text = plain(PAGES["dbq.toml.5"].partition(".EX\n")[2].partition("\n.EE")[0])
    assert tomllib.loads(text)["name"] == "shop"
    assert configs.parse(text, "/etc/shop/dbq.toml").worker.timeout == 600


def test_a_page_with_an_option_left_out_is_found() -> None:
    """The test above can fail: a parser with one option more is not covered by the page."""
    parser = argparse.ArgumentParser(prog="dbq")
    parser.add_argument("--brand-new")
    assert "--brand-new" in FLAG.findall(parser.format_help())
    assert "--brand-new" not in plain(page_of("dbq"))


def test_references_lead_somewhere() -> None:
    """A page of ours that another names in SEE ALSO is there."""
    for text in PAGES.values():
        for name, section in re.findall(r"^\.BR (dbq[\w.\\-]*) \((\d)\)", text, re.MULTILINE):
            assert f"{name.replace(chr(92), '')}.{section}" in PAGES


def test_no_page_depends_on_the_terminal(tmp_path: Path) -> None:
    """Made in a narrow terminal and in another time zone, the pages are the same."""
    program = "import manpages; from pathlib import Path; manpages.write(Path('.'), 1795491328)"
    for columns, zone in (("40", "Asia/Tokyo"), ("200", "America/Lima")):
        folder = tmp_path / columns
        folder.mkdir()
        variables = {"COLUMNS": columns, "TZ": zone, "PYTHONPATH": str(ROOT / "packaging/tools")}
        subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env={**variables, "PATH": ""}, check=True
        )
    one, other = (
        {p.name: p.read_text() for p in (tmp_path / c).rglob("*.*")} for c in ("40", "200")
    )
    assert one == other
    assert one.keys() == PAGES.keys()
    assert '2026-11-24 "' in one["dbq.1"]
