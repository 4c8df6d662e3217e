"""A JSON Schema of `dbq.toml`, made of what `sections.py` says of each key. For editors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .reader import Key, Part
from .sections import Config


def schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12); what it refuses, `dbq check` refuses too.

    Not the other way round: that a schedule fires, or that two keys fit together, it cannot say.

    >>> schema()["required"]
    ['queue']
    """
    _, name, *sections = fields(Config)
    parts: dict[str, Part] = {each.name: each.metadata["part"] for each in sections}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dbq.toml",
        "description": "The config of a dbbasic-queue.",
        "type": "object",
        "properties": {
            "name": _key(name.metadata["key"]),
            **{title: _part(part) for title, part in parts.items()},
        },
        "required": [title for title, part in parts.items() if part.needed and part.one_of],
        "anyOf": [
            {"required": ["commands"]},
            {"required": ["worker"], "properties": {"worker": {"required": ["handlers"]}}},
        ],
        "additionalProperties": False,
    }


def _part(part: Part) -> dict[str, Any]:
    keys: dict[str, Key] = {each.name: each.metadata["key"] for each in fields(part.keys)}
    table = {
        "description": part.about,
        "type": "object",
        "properties": {name: _key(said) for name, said in keys.items()},
        "required": [name for name, said in keys.items() if said.needed],
        "additionalProperties": False,
    }
    if part.one_of:
        table["oneOf"] = [{"required": [name]} for name in part.one_of]
    if part.named:
        about = table.pop("description")
        return {"description": about, "type": "object", "additionalProperties": table}
    if part.many:
        return {"description": table.pop("description"), "type": "array", "items": table}
    return table


def _key(said: Key) -> dict[str, Any]:
    found = {"description": said.about, **said.check.schema}
    if said.default is not None:
        found["default"] = said.default
    if said.example is not None:
        found["examples"] = [said.example]
    return found
