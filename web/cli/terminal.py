"""What programs wrote, on somebody's terminal: text and colours, and no other control.

A terminal does what it is told in its output: move the cursor and write over what was said before, change its title,
put text into the clipboard, answer into the shell's input. What an engine's program wrote may be hostile, so of all
sequences (ECMA-48, and xterm's) only those that set colours are let through. A pipe gets the bytes as they are.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

__all__ = ["Tame", "escaped"]

HELD: Final = 4096
"""How long a sequence may be whose end has not come; it is dropped then."""

STRING: Final = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*"
SEQUENCE: Final = re.compile(
    rf"(?P<colour>\x1b\[[0-9;:]*m)|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|{STRING}(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-Z\\`-~]"
)
BEGUN: Final = re.compile(rf"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|{STRING}\x1b?|\x1b[ -/]*|\r)\Z")


class Tame:
    """A stream, in any pieces. Feed it bytes, get what may be shown."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes) -> str:
        """A sequence that is not complete is held back."""
        text = self._held + self._decoder.decode(data)
        begun = BEGUN.search(text)
        cut = begun.start() if begun else len(text)
        self._held = text[cut:] if len(text) - cut < HELD else ""
        return _tamed(text[:cut])


def _tamed(text: str) -> str:
    shown, at = [], 0
    for found in SEQUENCE.finditer(text):
        shown += [_printable(text[at : found.start()]), found["colour"] or ""]
        at = found.end()
    return "".join([*shown, _printable(text[at:])])


def _printable(text: str) -> str:
    # A carriage return writes over its own line, which hides what stood there.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


def escaped(document: str) -> str:
    """JSON in which every character that is not printable is written as its number: the same JSON."""
    if document.isprintable():
        return document
    return "".join(char if char.isprintable() or char == "\n" else _number(char) for char in document)


def _number(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
