"""Bytes from somebody else's program, cut into lines, in bounded memory however long a line is. Pure.

Two readers want two things of an overlong line. In a protocol it is a fault, for a half read message means nothing; in
a log its beginning is worth more than nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["VALUES", "LineTooLong", "Lines", "crowded"]

VALUES = 100_000
"""How many values a message in JSON may hold: what takes a byte on the line takes a hundred in memory, and time."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def crowded(line: bytes) -> bool:
    """Whether a message in JSON holds more than `VALUES` values. Told without reading it, in linear time."""
    if line.count(b",") < VALUES:
        return False
    rest, strings = _STRING.subn(b"", line, count=4 * VALUES)
    return strings == 4 * VALUES or rest.count(b",") >= VALUES


class LineTooLong(ValueError):
    """`begins`: how the line begins."""

    def __init__(self, limit_bytes: int, begins: bytes) -> None:
        super().__init__(f"a line is longer than {limit_bytes} bytes")
        self.begins = begins


class Lines:
    """Feed it pieces, get whole lines, without their LF or CRLF.

    Args:
        limit_bytes: How long a line may be, and so how much is kept at most.
        cut: Give the beginning of a longer line and drop its rest, instead of raising LineTooLong.
    """

    def __init__(self, limit_bytes: int, *, cut: bool = False) -> None:
        self._limit_bytes, self._cut = limit_bytes, cut
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes. Raises LineTooLong as soon as it is known, after the lines before it."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._take(part)
            yield self._line()
        self._take(rest)

    def rest(self) -> bytes:
        """What came after the last LF: half a line, when nothing follows any more."""
        return self._line()

    def _take(self, part: bytes) -> None:
        room = self._limit_bytes - len(self._held)
        if len(part) > room:
            if not self._cut:
                raise LineTooLong(self._limit_bytes, bytes(self._held[:80]) or part[:80])
            part = part[:room]
        self._held += part

    def _line(self) -> bytes:
        line = bytes(self._held)
        self._held.clear()
        return line[:-1] if line.endswith(b"\r") else line
