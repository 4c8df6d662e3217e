"""Man pages: packaging/man/*.in, with what the parsers know filled in. See man-pages(7), man(7).

A line `@PART@` or `@PART COMMAND@` of a page stands for a generated part:

    @SYNOPSIS dbq@      the usage of the command, or of each of its own commands
    @OPTIONS dbq@       its options; of its own commands, if it has some, those that all share
    @COMMANDS dbq@      its own commands, each with its arguments, options and examples
    @EXAMPLES dbq@      the examples of its --help
    @STATUS dbq@        the exit status of its --help

`dbq:list` is the command `dbq list`. A line `@KEYS@` stands for the keys of the config.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from parsers import SOURCE, epilog, groups, project, usage

from dbbasic_queue.cli.options import Option, options, parsers, subcommands
from dbbasic_queue.config.reader import Key, Part
from dbbasic_queue.config.sections import Config
from dbbasic_queue.config.values import schedule
from dbbasic_queue.schedule.schedule import Schedule

PAGES = SOURCE / "packaging" / "man"
LINKS = {"check_dbq.1": "dbq-health.1"}
_PART = re.compile(r"^@(\w+)(?: ([\w:-]+))?@$", re.MULTILINE)
# Words of a usage: an option, what stands for a value, and punctuation.
_WORD = re.compile(r"(?<![\w@])(--?[A-Za-z][\w-]*)|\b([A-Z][A-Z]*(?::[A-Z]+)?)\b")


def pages(epoch: int) -> dict[str, str]:
    """All pages by their file name, `dbq.1`, dated `epoch` (Unix seconds)."""
    found = parsers()
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    made = {
        path.name.removesuffix(".in"): _page(path.read_text(), date, found)
        for path in sorted(PAGES.glob("*.in"))
    }
    return made | {link: f".so man1/{target}\n" for link, target in LINKS.items()}


def write(folder: Path, epoch: int) -> list[Path]:
    """Write all pages below a man folder, in `man1`, `man5` and so on."""
    written = []
    for name, text in pages(epoch).items():
        path = folder / f"man{name.rpartition('.')[2]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    return written


def _page(template: str, date: str, found: dict[str, argparse.ArgumentParser]) -> str:
    makers: dict[str, Callable[[argparse.ArgumentParser], Iterable[str]]] = {
        "SYNOPSIS": _synopsis,
        "OPTIONS": _options,
        "COMMANDS": _commands,
        "EXAMPLES": _examples,
        "STATUS": _status,
    }

    def part(match: re.Match[str]) -> str:
        return "\n".join(makers[match[1]](found[match[2]]))

    found |= {
        f"{name}:{own}": each
        for name, parser in list(found.items())
        for own, each in subcommands(parser).items()
    }
    text = template.replace("@DATE@", date).replace("@VERSION@", project()["version"])
    text = text.replace("@KEYS@\n", "\n".join(_keys()) + "\n")
    return _PART.sub(part, text)


# --- Parts --------------------------------------------------------------------------------------


def _synopsis(parser: argparse.ArgumentParser) -> Iterable[str]:
    for each in subcommands(parser).values() or [parser]:
        program, _, rest = usage(each).partition(" [")
        words = _WORD.sub(_fonts, escape(f"[{rest}").replace("\\-", "-")) if rest else ""
        yield f'.SY "{escape(program)}"'
        yield from (line.replace("-", "\\-") for line in _broken(words))
        yield ".YS"


def _broken(words: str) -> Iterable[str]:
    """One line for each option, so that a line of the page is not broken inside of one."""
    depth, line = 0, ""
    for character in words:
        depth += (character == "[") - (character == "]")
        if character == " " and depth == 0:
            yield line
            line = ""
        else:
            line += character
    if line:
        yield line


def _fonts(match: re.Match[str]) -> str:
    return f"\\fB{match[1]}\\fR" if match[1] else f"\\fI{match[2]}\\fR"


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    own = subcommands(parser)
    wanted = list(options(parser))
    if own:
        shared = _shared(own.values())
        wanted += [each for each in options(next(iter(own.values()))) if each in shared]
    shown: set[Option] = set()
    titles = [(title, flags) for title, flags in groups(parser) if title != "options"]
    for each in wanted:
        if each not in shown and not any(each.flags[:1] == (f,) for _, fs in titles for f in fs):
            yield from _option(each)
            shown.add(each)
    for title, flags in titles:
        yield f".SS {escape(title[0].upper() + title[1:])}"
        for each in wanted:
            if each.flags[:1] and each.flags[0] in flags:
                yield from _option(each)


def _option(option: Option) -> Iterable[str]:
    value = ""
    if option.value:
        value = option.value
        if option.choices:
            value = "|".join(option.choices)
    names = ", ".join(f"\\fB{escape(flag)}\\fR" for flag in option.flags)
    shown = f"\\fI{escape(value)}\\fR" if value else ""
    yield ".TP"
    yield " ".join(filter(None, (names, shown))) + (" ..." if option.repeated and value else "")
    if option.help:
        yield sentence(option.help)
    else:
        yield "The job's id."


def _shared(commands: Iterable[argparse.ArgumentParser]) -> set[Option]:
    """The options of all commands that are about one queue; `migrate` is about two."""
    found = (set(options(each)) for each in commands)
    return set.intersection(*(each for each in found if any("--file" in o.flags for o in each)))


def _commands(parser: argparse.ArgumentParser) -> Iterable[str]:
    own = subcommands(parser)
    shared = _shared(own.values())
    for name, each in own.items():
        yield f".SS {escape(parser.prog)} {escape(name)}"
        yield escape(each.description or "")
        for option in options(each):
            if option not in shared:
                yield from _option(option)
        yield from _examples(each)


def _examples(parser: argparse.ArgumentParser) -> Iterable[str]:
    lines = epilog(parser)["examples"].splitlines()
    yield from (".PP", ".RS 4", ".EX")
    yield from (escape(line.removeprefix("  ")) for line in lines)
    yield from (".EE", ".RE")


def _status(parser: argparse.ArgumentParser) -> Iterable[str]:
    for line in epilog(parser)["exit status"].splitlines():
        found = re.fullmatch(r"  (\d)  (.*)", line)
        if found:
            yield from (".TP", f".B {found[1]}")
        yield escape(found[2] if found else line.strip())


def _keys() -> Iterable[str]:
    """The keys of the config, as the library says them."""
    _, name, *sections = fields(Config)
    yield from _key("name", name.metadata["key"])
    for each in sections:
        part: Part = each.metadata["part"]
        name = f"{each.name}.NAME" if part.named else each.name
        yield f".SS [[{name}]]" if part.many else f".SS [{name}]"
        yield sentence(part.about)
        for key in fields(part.keys):
            yield from _key(key.name, key.metadata["key"])


def _key(name: str, key: Key) -> Iterable[str]:
    yield from (".TP", f".B {name}", sentence(key.about))
    if key.more:
        yield escape(key.more)
    usual = key.otherwise
    if not usual and key.check is schedule:
        usual = Schedule.parse(key.default).describe() if key.default else ""
    elif not usual and key.default is not None:
        usual = json.dumps(key.default) if "enum" in key.check.schema else str(key.default)
    if usual:
        yield escape(f"If not given: {usual}.")


# --- Words --------------------------------------------------------------------------------------


def sentence(text: str) -> str:
    """A help text as a sentence of a page."""
    first = text.split()[0]
    named = ":" in first or first.startswith("dbq")  # a value or a command, as it is typed
    text = escape(text if named else text[0].upper() + text[1:])
    return text if text.endswith((".", "?")) else f"{text}."


def escape(text: str) -> str:
    """Text as roff takes it: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = text.replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text
