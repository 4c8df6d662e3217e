"""What a config keeps off the screen: values of some keys of a payload, by `[types.X] redact`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError
from ..job import QUOTED, Job
from ..support.text import dump_json, escape_control
from .common import DONE, Argument, arg, complain, config_of, place_of

if TYPE_CHECKING:
    from ..config.sections import Config

HIDDEN: Final = "…"
LEAST: Final = 4  # characters of a value that is looked for in an error or a result
REVEAL: Final[Argument] = arg(
    "--reveal", action="store_true", help="print also what [types] redact in the config hides"
)

Hide = Callable[[dict[str, Any]], dict[str, Any]]


def secrets_of(args: argparse.Namespace) -> Hide:
    """Return what hides, in a job as `Job.as_dict` gives it, what the config says is secret."""
    if getattr(args, "reveal", False):
        return lambda job: job
    try:
        config = config_of(args)
    except ConfigError as error:
        if place_of(args).address is None:
            raise
        complain(f"warning: nothing is hidden, as the config has faults: {error}", DONE)
        config = None
    return hider(config)


def hider(config: Config | None) -> Hide:
    """Return what `secrets_of` does for a config."""
    hidden = (
        {name: each.redact for name, each in config.types.items() if each.redact} if config else {}
    )
    return lambda job: hide(job, hidden) if hidden else job


def error_hider(hide: Hide) -> Callable[[Job], Job]:
    """Return what takes from an error what is secret, as if that were a number.

    Numbers make no difference where jobs are grouped by their errors.
    """

    def without(job: Job) -> Job:
        shown = hide(job.as_dict())["error"]
        return job if shown == job.error else job._replace(error=shown.replace(HIDDEN, "0"))

    return without


def hide(job: dict[str, Any], hidden: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return a job without some values of its payload, in its error and its result, too.

    Which keys these are is told in `hidden`, so that it is not taken for the job as it was.

    >>> job = {"type": "mail", "payload": {"token": "s3cret", "n": 1}, "error": "E: s3cret"}
    >>> hide(job, {"m*": ("token",)})
    {'type': 'mail', 'payload': {'token': '…', 'n': 1}, 'error': 'E: …', 'hidden': ['token']}
    """
    from ..engines.choice import matches

    keys = {key for glob, keys in hidden.items() if matches(job["type"], glob) for key in keys}
    payload = job["payload"]
    if not isinstance(payload, dict):
        return _unread(job) if keys else job  # it is not JSON: what is in it?
    found = sorted(keys & payload.keys())
    if not found:
        return job
    shown = {**job, "payload": {k: HIDDEN if k in keys else v for k, v in payload.items()}}
    shown["hidden"] = found
    texts = [text for value in map(payload.get, found) if len(text := _text(value)) >= LEAST]
    for name in ("error", "result"):
        if shown.get(name) is not None:
            shown[name] = _without(shown[name], texts)
    return shown


def _unread(job: dict[str, Any]) -> dict[str, Any]:
    """A job without its payload, which is not JSON, and without what its error has of that."""
    begins, error = _text(job["payload"])[:QUOTED].rstrip(), job["error"]
    if error is not None and len(begins) >= LEAST:
        error = _without(error, [begins, escape_control(begins)])
    return {**job, "payload": HIDDEN, "error": error}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dump_json(value)


def _without(value: Any, texts: list[str]) -> Any:
    """A value without these texts, in whatever is in it."""
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, HIDDEN)
        return value
    if isinstance(value, dict):
        return {key: _without(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [_without(each, texts) for each in value]
    return HIDDEN if _text(value) in texts else value
