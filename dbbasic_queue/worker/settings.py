"""The settings of the process, which handlers find as the first one found them.

The environment, the resource limits, the locale, and some switches of Python's. To look at all of
them after each job would take as long as the job's own turn. So the environment counts its changes,
and a limit or the locale is looked at only where the module is loaded that changes it.
"""

from __future__ import annotations

import _locale
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from sys import modules
from typing import Any, Final

from ..support.text import printable

log = logging.getLogger("dbbasic_queue")

_recursion_limit: Final = sys.getrecursionlimit
_collects: Final = gc.isenabled
_niceness_of: Final = os.getpriority
_PROCESS: Final = os.PRIO_PROCESS
_setlocale: Final = _locale.setlocale
_LC_ALL: Final = _locale.LC_ALL


class _Counting(dict[bytes, bytes]):
    """What `os.environ` keeps its variables in, with the number of changes."""

    __slots__ = ("changes",)

    def __init__(self, variables: dict[bytes, bytes]) -> None:
        super().__init__(variables)
        self.changes = 0

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().__setitem__(name, value)

    def __delitem__(self, name: bytes) -> None:
        self.changes += 1
        super().__delitem__(name)

    def clear(self) -> None:  # by os.reload_environ, which goes on with `update`
        self.changes += 1
        super().clear()


class Environment:
    """`os.environ` as it was. Comparing the 30 variables of a usual one takes 0.4 us, a count 0.02.

    What is changed past it, by `os.putenv` or a C library, is not seen.
    """

    def __init__(self) -> None:
        self._mapping = os.environ
        self._variables = _counted()
        self._before = dict(self._variables)
        self._changes = self._variables.changes

    def restore(self) -> None:
        """Make it so again, for C libraries as well."""
        if os.environ is not self._mapping:
            os.environ = self._mapping  # noqa: B003 - that is what a handler has done
        if self._variables.changes != self._changes:
            self._restore()

    def _restore(self) -> None:
        before, now = self._before, self._variables
        changed = {name for name in before if now.get(name) != before[name]}
        for name in now.keys() - before.keys():
            changed.add(name)
            del os.environb[name]
        for name in changed & before.keys():
            os.environb[name] = before[name]
        if b"TZ" in changed:
            time.tzset()  # which the handler has called as well: TZ is read only then
        self._changes = now.changes


def _counted() -> _Counting:
    """The variables of `os.environ`, which counts their changes from now on."""
    found: Any = os.environ
    variables = getattr(found, "_data", None)
    if isinstance(variables, _Counting):
        return variables
    counting = _Counting(dict(os.environb))
    if variables is not None and variables is getattr(os.environb, "_data", None):
        found._data = os.environb._data = counting  # type: ignore[attr-defined]
    return counting


class Limits:
    """The resource limits as they were. They are changed by the module `resource`."""

    def __init__(self) -> None:
        self._resource = resource = _resource()
        # In this order, as RLIMIT_OFILE is an old name of RLIMIT_NOFILE.
        names = [name for name in reversed(dir(resource)) if name.startswith("RLIMIT_")]
        kinds = {getattr(resource, name): name for name in names}
        self._before = {kind: (name, resource.getrlimit(kind)) for kind, name in kinds.items()}

    def restore(self) -> bool:
        """Make them so again; whether that could be done."""
        lost = []
        for kind, (name, before) in self._before.items():
            if self._resource.getrlimit(kind) == before:
                continue
            try:
                self._resource.setrlimit(kind, before)
            except (ValueError, OSError):  # only root raises a hard limit
                lost.append(name)
        if lost:
            log.warning(
                "a handler has lowered the hard limit %s, which cannot be raised again: this"
                " process takes no more jobs, and the next one to start goes on",
                ", ".join(lost),
                extra={"event": "limits"},
            )
        return not lost


@cache
def _resource() -> Any:
    """The module `resource`; None where neither this nor a handler can load it."""
    loaded = "resource" in modules
    try:
        import resource
    except ImportError:
        return None
    if not loaded:
        del modules["resource"]  # so that it is seen when a handler loads it
    return resource


class _CountingSetlocale:
    """What the module `locale` sets the locale by, with the number of times that it was set."""

    def __init__(self, setlocale: Callable[..., str]) -> None:
        self.changes = 0
        self._setlocale = setlocale

    def __call__(self, category: int, locale: str | None = None) -> str:
        if locale is not None:
            self.changes += 1
        return self._setlocale(category, locale)


class Locale:
    """The locale as it was. To ask for it takes 0.4 us, so the changes are counted.

    What is changed past the module `locale`, by a C library, is seen when it is first loaded.
    """

    def __init__(self) -> None:
        self._before = _setlocale(_LC_ALL)
        self._counting: _CountingSetlocale | None = None
        self._changes = 0

    def restore(self) -> None:
        """Make it so again. Call it when the module `locale` is loaded."""
        counting = self._counting
        if counting is None:
            self._counting = counting = _counted_setlocale()
        elif counting.changes == self._changes:
            return
        self._changes = counting.changes
        if _setlocale(_LC_ALL) != self._before:
            _set_locale(self._before)


def _counted_setlocale() -> _CountingSetlocale:
    """What the module `locale` sets the locale by, which counts from now on."""
    module: Any = modules["locale"]
    if not isinstance(module._setlocale, _CountingSetlocale):
        module._setlocale = _CountingSetlocale(module._setlocale)
    counting: _CountingSetlocale = module._setlocale
    return counting


class Settings:
    """All of them as they were when this was made, in the main thread."""

    def __init__(self) -> None:
        self._environment = Environment()
        self._limits = Limits()
        self._locale = Locale()
        self._switches = _recursion_limit(), _collects()
        self._patience = _patience()
        self._niceness = _niceness_of(_PROCESS, 0)
        self._temporary = getattr(modules.get("tempfile"), "tempdir", None)

    def restore(self) -> bool:
        """Make them so again; whether that could be done."""
        self._environment.restore()
        if (_recursion_limit(), _collects()) != self._switches:
            self._restore_switches()
        if "locale" in modules:
            self._locale.restore()
        if "socket" in modules and _patience() != self._patience:
            modules["socket"].setdefaulttimeout(self._patience)
        if _niceness_of(_PROCESS, 0) != self._niceness:
            self._restore_niceness()
        if "tempfile" in modules and modules["tempfile"].tempdir != self._temporary:
            self._restore_temporary()
        return "resource" not in modules or self._limits.restore()

    def _restore_switches(self) -> None:
        limit, collects = self._switches
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()
        else:
            gc.disable()

    def _restore_temporary(self) -> None:
        """Have `tempfile` use the folder again that it would choose by the environment.

        It keeps what it has once found: perhaps a folder of a handler's, by `$TMPDIR` of its own.
        """
        module: Any = modules["tempfile"]
        module.tempdir = self._temporary
        if self._temporary is None:
            with suppress(OSError):  # there is none; then each handler looks for itself
                self._temporary = module.gettempdir()

    def _restore_niceness(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, self._niceness)
        except OSError:  # it takes root; and a job is better done slowly than in a later run
            self._niceness = _niceness_of(_PROCESS, 0)
            log.warning(
                "a handler has raised the niceness to %d, which cannot be lowered again: the jobs"
                " after it have it, too; better call os.nice in a process of its own",
                self._niceness,
                extra={"event": "niceness"},
            )


def _patience() -> float | None:
    """The time-out that new sockets get."""
    found: float | None = modules["socket"].getdefaulttimeout() if "socket" in modules else None
    return found


def _set_locale(name: str) -> None:
    try:
        _locale.setlocale(_locale.LC_ALL, name)
    except _locale.Error as error:  # type: ignore[attr-defined]  # its files have gone since
        log.warning("cannot go back to the locale %s: %s", printable(name), error)
