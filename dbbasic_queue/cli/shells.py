"""Completions for bash, zsh and fish, made of what the commands take.

shtab knows no fish, and argcomplete would start Python at each press of the tab key; what we need
of either is a page of code a shell. Python is started for ids and types only, which are in the
queue that the line names: `dbq completion ids`. What that prints cannot be taken for code.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import Final

from .options import Option, options, subcommands

PATHS: Final = ("PATH", "DIR")

# Each asks `dbq completion` for words of the queue that the line names.
BASH_WORDS: Final = """\
_dbq_words() {
    local -a line where=()
    read -ra line <<< "${COMP_LINE:0:COMP_POINT}"
    local i
    for (( i = 1; i + 1 < ${#line[@]}; i++ )); do
        case ${line[i]} in --file|--config|--url) where+=("${line[i]}" "${line[i+1]}") ;; esac
    done
    command dbq completion "$1" "${where[@]}" 2>/dev/null
}"""
ZSH_WORDS: Final = """\
_dbq_words() {
    local -a where found
    local i
    for (( i = 1; i < CURRENT - 1; i++ )); do
        [[ $words[i] == --(file|config|url) ]] && where+=($words[i] ${(Q)words[i+1]})
    done
    found=(${(f)"$(command dbq completion $1 $where 2>/dev/null)"})
    compadd -a found
}
"""
FISH_WORDS: Final = """\
function __dbq_words
    set -l line (commandline -opc)
    set -l where
    for i in (seq 2 (math (count $line) - 1))
        if contains -- $line[$i] --file --config --url
            set -a where $line[$i] $line[(math $i + 1)]
        end
    end
    command dbq completion $argv[1] $where 2>/dev/null
end"""


def _asks(parser: argparse.ArgumentParser) -> bool:
    """Whether a value of the command is in the queue."""
    found = [parser, *subcommands(parser).values()]
    return any(option.words for each in found for option in options(each))


def _flags(found: Iterable[Option]) -> list[str]:
    return [flag for option in found for flag in option.flags]


# --- bash ---------------------------------------------------------------------------------------


def bash(name: str, parser: argparse.ArgumentParser) -> str:
    """A completion function as bash(1), Programmable Completion, has it."""
    own = subcommands(parser)
    body = [
        f"# bash completion for {name}",
        *(BASH_WORDS.splitlines() if _asks(parser) else ()),
        f"_{_word(name)}() {{",
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}",
        "    local command=${COMP_WORDS[1]} words= paths=",
        "    (( COMP_CWORD > 1 )) || command=",
        "    case $command in",
    ]
    for each, sub in own.items():
        body += [f"    {each})", *_bash_case(list(options(sub)), "        "), "        ;;"]
    rest = list(options(parser))
    body += ["    *)", *_bash_case(rest, "        ", list(own)), "        ;;", "    esac"]
    body += [
        "    COMPREPLY=()",
        "    local IFS=$'\\n'",
        '    [[ -z $paths ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
        '    [[ -z $words ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
        "}",
        f"complete -o filenames -F _{_word(name)} {name}",
    ]
    return "\n".join(body) + "\n"


def _bash_case(found: list[Option], indent: str, more: list[str] | None = None) -> list[str]:
    """What may come after `$prev`: the value of an option, else whatever the command takes."""
    lines = ["case $prev in"]
    for option in found:
        if option.flags and option.value and not option.optional:
            what = "paths=y"
            if option.choices:
                what = _bash_words(list(option.choices))
            elif option.words:
                what = f"words=$(_dbq_words {option.words})"
            elif option.value not in PATHS:
                what = ":"  # whatever it is, a file's name it is not
            lines.append(f"{'|'.join(option.flags)}) {what} ;;")
    choices = [each for option in found if not option.flags for each in option.choices]
    words = [*(more or ()), *choices, *_flags(found)]
    asked = [option.words for option in found if not option.flags and option.words]
    whole = _bash_words(words)
    if asked:
        whole += f"; [[ $cur == -* ]] || words=$(_dbq_words {asked[0]})"
    lines += [f"*) {whole} ;;", "esac"]
    return [indent + line for line in lines]


def _bash_words(words: list[str]) -> str:
    return "words=$'" + "\\n".join(words) + "'"


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name)


# --- zsh ----------------------------------------------------------------------------------------


def zsh(name: str, parser: argparse.ArgumentParser) -> str:
    """A function for zsh's compsys, as zshcompsys(1) has it: _arguments does the work."""
    own = subcommands(parser)
    body: list[str] = []
    if not own:
        return _zsh_file(name, parser, _zsh_arguments(list(options(parser)), ""))
    body += ["local -a commands", "commands=("]
    for each, sub in own.items():
        body.append(f"    {_quoted(f'{each}:{_plain(sub.description or str())}')}")
    body += [
        ")",
        "if (( CURRENT == 2 )); then",
        f"    _describe -t commands {_quoted(f'{name} command')} commands",
        *_zsh_arguments(list(options(parser)), "    "),
        "    return",
        "fi",
        "local command=$words[2]",
        "shift words",
        "(( CURRENT-- ))",
        "case $command in",
    ]
    for each, sub in own.items():
        body += [f"{each})", *_zsh_arguments(list(options(sub)), "    "), "    ;;"]
    return _zsh_file(name, parser, [*body, "esac"])


def _zsh_file(name: str, parser: argparse.ArgumentParser, body: list[str]) -> str:
    """A file that zsh loads by its name, and that may be sourced as well."""
    function = f"_{name}"
    lines = [
        f"#compdef {name}",
        "",
        *(ZSH_WORDS.splitlines() if _asks(parser) else ()),
        f"{function}() {{",
        *(f"    {line}" for line in body),
        "}",
        f'if [[ $funcstack[1] == {function} ]]; then {function} "$@"',
        f"else compdef {function} {name}",
        "fi",
    ]
    return "\n".join(lines) + "\n"


def _zsh_arguments(found: list[Option], indent: str) -> list[str]:
    specs = [spec for option in found for spec in _zsh_specs(option)]
    return [f"{indent}_arguments -S \\"] + [
        f"{indent}    {_quoted(spec)}{' ' + chr(92) if spec is not specs[-1] else ''}"
        for spec in specs
    ]


def _zsh_specs(option: Option) -> Iterable[str]:
    action = ""
    if option.choices:
        action = f"({' '.join(option.choices)})"
    elif option.words:
        action = f" _dbq_words {option.words}"  # the blank: as it stands, without compadd's options
    elif option.value in PATHS:
        action = "_files"
    what = _plain(option.value or "").replace(":", "\\:")
    if not option.flags:
        yield f"{'*' if option.repeated else ''}:{what}:{action}"
        return
    about = _plain(option.help).replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    others = " ".join(option.flags)
    for flag in option.flags:
        first = "*" if option.repeated else f"({others})"
        value = f":{what}:{action}" if option.value else ""
        yield f"{first}{flag}[{about}]{value}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish ---------------------------------------------------------------------------------------


def fish(name: str, parser: argparse.ArgumentParser) -> str:
    """Lines of `complete`, as fish has it."""
    own = subcommands(parser)
    lines = [f"# fish completion for {name}", *(FISH_WORDS.splitlines() if _asks(parser) else ())]
    lines.append(f"complete -c {name} -f")
    first = "__fish_use_subcommand" if own else ""
    for each, sub in own.items():
        about = shlex.quote(_plain(sub.description or ""))
        lines.append(f"complete -c {name} -n {first} -a {each} -d {about}")
    lines += _fish_options(name, list(options(parser)), first)
    for each, sub in own.items():
        lines += _fish_options(name, list(options(sub)), f"__fish_seen_subcommand_from {each}")
    return "\n".join(lines) + "\n"


def _fish_options(name: str, found: list[Option], condition: str) -> list[str]:
    lines = []
    for option in found:
        if not (option.flags or option.words or option.choices):
            continue
        words = ["complete", "-c", name]
        words += ["-n", condition] if condition else []
        for flag in option.flags:
            words += ["-l", flag[2:]] if flag.startswith("--") else ["-s", flag[1:]]
        if option.choices:
            words += [*(["-x"] if option.flags else []), "-a", " ".join(option.choices)]
        elif option.words:
            words += [*(["-x"] if option.flags else []), "-a", f"(__dbq_words {option.words})"]
        elif option.value:
            words += ["-r", "-F"] if option.value in PATHS else ["-x"]
        words += ["-d", _plain(option.help)] if option.help else []
        lines.append(" ".join(map(shlex.quote, words)))
    return lines
