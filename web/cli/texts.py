"""How values are written on a command line: `key=value`, JSON, text.

A value that is JSON is that JSON (`3`, `true`, `["a"]`, `"3"`); anything else is text, so most things need no quotes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

__all__ = ["json_of", "members", "pairs", "table", "text_or_json", "value"]


def value(text: str) -> Any:
    """JSON when it is JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def json_of(text: str, option: str) -> Any:
    """JSON and nothing else."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} must be JSON ({error})") from None


def members(spec: str | None) -> dict[str, Any]:
    """Those of `--spec`: a JSON object, or none."""
    found = json_of(spec, "--spec") if spec else {}
    if not isinstance(found, dict):
        raise typer.BadParameter("--spec must be a JSON object")
    return found


def table(settings: Sequence[str]) -> dict[str, Any]:
    """`a=1`, `env.PATH=/bin` and whole JSON objects, as one table; later ones win."""
    made: dict[str, Any] = {}
    for setting in settings:
        if setting.startswith("{"):
            made |= json_of(setting, "--config")
            continue
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"--config {setting!r} must be key=value or a JSON object")
        *path, last = key.split(".")
        place = made
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value(text)
    return made


def pairs(labels: Sequence[str], option: str) -> dict[str, str]:
    """`name=value`, always text."""
    made: dict[str, str] = {}
    for label in labels:
        name, equals, text = label.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option} {label!r} must be name=value")
        made[name] = text
    return made


def text_or_json(text: str | None, given: str | None) -> Any:
    """A run's input: the text as it is (`-`: standard input), or the JSON of `--input`."""
    if (text is None) == (given is None):
        raise typer.BadParameter("give the input as a text, or as JSON with --input")
    if given is not None:
        return json_of(given, "--input")
    return sys.stdin.read() if text == "-" else text
