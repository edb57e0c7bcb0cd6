"""Marks in a stream of bytes: how a terminal, which carries everything, says where a command begins and ends.

A mark is RS, a token that nobody can guess, a space, a word, RS. Where somebody looks at the terminal it is `HIDDEN`
instead: an operating system command that no terminal knows, so that none shows it (ECMA-48, 8.3.89). It may arrive in
any pieces; what could still become one is held back, and nothing else is, so output is shown as soon as it is there.
Pure.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

__all__ = ["HIDDEN", "Marks"]

PLAIN = b"\x1e", b"\x1e"
HIDDEN = b"\x1b]7837;", b"\x07"
WORD_BYTES = 16


class Marks:
    """Finds the marks with one token, a new one if none is given. At most one mark's length is held back.

    `around`: what a mark begins and ends with; the first byte of that must not come again before the end.
    """

    def __init__(self, token: str | None = None, around: tuple[bytes, bytes] = PLAIN) -> None:
        opening, self._closing = around
        self._first = opening[:1]
        self._head = opening + (token or secrets.token_hex(16)).encode() + b" "
        word = rb"([0-9a-z]{1,%d})" % WORD_BYTES
        self._mark = re.compile(re.escape(self._head) + word + re.escape(self._closing))
        self._held = b""

    @property
    def printf(self) -> str:
        """What a shell's `printf` writes a mark with; its one argument is the word."""
        return _octal(self._head) + "%s" + _octal(self._closing)

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        """What is output, as bytes, and the words of marks, as strings, in their order."""
        data = self._held + data
        at = 0
        for found in self._mark.finditer(data):
            if found.start() > at:
                yield data[at : found.start()]
            yield found[1].decode()
            at = found.end()
        cut = self._beginning(data, at)
        self._held = data[cut:]
        if cut > at:
            yield data[at:cut]

    def rest(self) -> bytes:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, b""
        return held

    def _beginning(self, data: bytes, at: int) -> int:
        """Where what could become a mark begins. Its first byte does not come again in it, so only the last counts."""
        cut = data.rfind(self._first, at)
        tail = data[cut:] if cut >= 0 else b""
        word = tail[len(self._head) :]
        could = self._head.startswith(tail) if len(tail) <= len(self._head) else tail.startswith(self._head)
        return cut if tail and could and len(word) <= WORD_BYTES and (not word or word.isalnum()) else len(data)


def _octal(text: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else rf"\{byte:03o}" for byte in text)
