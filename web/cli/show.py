"""What a command prints: JSON for programs, tables for people. Colour and width only where there is a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from web.cli.terminal import escaped

__all__ = ["cell", "error", "json_line", "lines", "print_json", "record", "table", "warning"]

WIDE: Final = 60


def print_json(value: Any) -> None:
    """Plain values as one JSON document."""
    print(escaped(json.dumps(value, ensure_ascii=False, indent=2)))


def json_line(value: Any) -> None:
    """The same in one line."""
    print(escaped(json.dumps(value, ensure_ascii=False)))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """One line per row. A pipe gets plain columns that are never cut; `empty` is said to people alone."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    people = sys.stdout.isatty()
    lines = [[cell(row.get(column), wide=not people) for column in columns] for row in rows]
    if people:
        _terminal(lines, columns)
        return
    widths = [max(len(line[i]) for line in (list(columns), *lines)) for i in range(len(columns))]
    for line in (columns, *lines):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def record(value: Mapping[str, Any], *names: str) -> None:
    """One `name  value` per line; all members, or those that are named."""
    shown = [(name, value.get(name)) for name in names or value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, what in shown:
        if what is not None and what not in ({}, []):
            print(f"{name.ljust(width)}  {cell(what, wide=True)}")


def error(message: str) -> None:
    """One line on stderr."""
    print(f"error: {_plain(message)}", file=sys.stderr)


def warning(message: str) -> None:
    """One line on stderr, for what does not stop anything."""
    print(f"warning: {_plain(message)}", file=sys.stderr)


def cell(value: Any, *, wide: bool = False) -> str:
    """A value in one line without control characters: what an engine says must not repaint a terminal."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case str() | int():
            text = _plain(str(value))
        case _:
            text = escaped(json.dumps(value, ensure_ascii=False))
    return text if wide or len(text) <= WIDE else text[: WIDE - 1] + "…"


def lines(text: str) -> str:
    """The same for text that has lines, such as a traceback, which stay lines."""
    return "\n".join(_plain(line) for line in text.rstrip("\n").split("\n"))


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "?" for char in text)


def _terminal(lines: list[list[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column)
    for line in lines:
        shown.add_row(*(Text(text) for text in line))  # Text: what looks like markup is not
    Console().print(shown)
