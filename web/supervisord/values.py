"""The values of a supervisord configuration, as supervisord reads them (`supervisor/datatypes.py` there)."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["Autorestart", "autorestart", "boolean", "byte_size", "expand", "name", "numbers", "pairs", "signal_name"]

Autorestart = Literal["true", "false", "unexpected"]
TRUE: Final = ("yes", "true", "on", "1")
FALSE: Final = ("no", "false", "off", "0")
SIZES: Final = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


NAMED: Final = re.compile(r"%\(([^)]*)\)")
WIDE: Final = re.compile(r"%(\([^)]*\))?[-#0 +]*(\d{4}|\d*\.\d{4})")
MOST_CHARS: Final = 1 << 20


def expand(text: str, expansions: Mapping[str, object], where: str) -> str:
    """`%(name)s` and `%(process_num)02d`, and `%%` for a percent sign. Raises ValueError, also for what would become
    longer than anybody can mean.
    """
    size = len(text) + sum(len(str(expansions.get(name, ""))) for name in NAMED.findall(text))
    if size > MOST_CHARS or WIDE.search(text):
        raise ValueError(f"{where} would be longer than {MOST_CHARS} characters, or has a width of four digits")
    try:
        return text % expansions
    except KeyError as error:
        named = str(error.args[0])
        if named.startswith("ENV_"):
            absent = f"there is no variable {named.removeprefix('ENV_')} in the environment"
            raise ValueError(f"{where} uses %({named})s, and {absent}") from None
        known = ", ".join(sorted(one for one in expansions if not one.startswith("ENV_")))
        raise ValueError(f"{where} uses {named!r}, which is none of {known}, ENV_...") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where} is no format ({error}): {text!r}; a percent sign is written %%") from None


def name(text: str) -> str:
    found = text.strip()
    for character in " :/":
        if character in found:
            raise ValueError(f"{found!r} is no name: it has a {character!r}")
    return found


def boolean(text: str) -> bool:
    word = text.lower()
    if word not in TRUE + FALSE:
        raise ValueError(f"{text!r} is neither true nor false")
    return word in TRUE


def autorestart(text: str) -> Autorestart:
    word = text.lower()
    if word == "unexpected":
        return "unexpected"
    try:
        return "true" if boolean(word) else "false"
    except ValueError:
        raise ValueError(f"{text!r} is no autorestart: true, false or unexpected") from None


def byte_size(text: str) -> int:
    word = text.lower()
    unit = word[-2:]
    return int(word[:-2]) * SIZES[unit] if unit in SIZES else int(word)


def numbers(text: str) -> tuple[int, ...]:
    """Exit codes."""
    found = tuple(int(part) for part in text.split(",")) if text else ()
    if any(not 0 <= number <= 255 for number in found):
        raise ValueError(f"{text!r} has an exit code that is not between 0 and 255")
    return found


def signal_name(text: str) -> str:
    """Without SIG, from a name or a number."""
    try:
        found = signal.Signals(int(text))
    except ValueError:
        word = text.strip().upper()
        word = word if word.startswith("SIG") else f"SIG{word}"
        if word not in signal.Signals.__members__:
            raise ValueError(f"{text!r} is no signal") from None
        found = signal.Signals[word]
    return found.name.removeprefix("SIG")


def pairs(text: str) -> dict[str, str]:
    """`KEY=val,KEY2="a, b"`. Raises ValueError."""
    lexer = shlex.shlex(text, posix=True)
    lexer.wordchars += "/.+-():"
    tokens = list(lexer)
    found: dict[str, str] = {}
    for at in range(0, len(tokens), 4):
        words = tokens[at : at + 3]
        if len(words) != 3 or words[1] != "=":
            raise ValueError(f"{text!r} is no list of KEY=value; quote what has a comma or a percent sign in it")
        found[words[0]] = words[2]
    return found
