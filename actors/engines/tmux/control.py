"""tmux's control mode (tmux(1), CONTROL MODE), as far as we speak it: bytes from a control client to what they mean.

What a program writes in a pane comes as `%output`, every byte below a space, and the backslash, as three octal digits:
so it can hold nothing that looks like another line. It is what tmux read from the pane's terminal, not what it made of
that. Answers to commands stand between `%begin` and `%end` or `%error` of one number, and come in the order of the
commands. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from actors.lines import Lines

__all__ = ["Answer", "Control", "Notice", "Output", "Uncooked"]

LINE_BYTES = 1 << 20
"""tmux sends the output of a pane in pieces of a few kB."""

ANSWER_LINES = 1000
"""How many lines of an answer are kept."""

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_BYTE = {b"%03o" % value: bytes([value]) for value in range(256)}
OURS = 1
"""In the flags of an answer: it is to a command that came through this client."""


@dataclass(frozen=True, slots=True)
class Output:
    """What was written in a pane (`%0`), byte for byte as its terminal passed it on."""

    pane: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """To one of our commands."""

    ok: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened: its name without the `%`, and the rest of its line."""

    name: str
    rest: str


class Control:
    """Feed it what a control client says. Raises LineTooLong for what is none."""

    def __init__(self) -> None:
        self._lines = Lines(LINE_BYTES)
        self._open: tuple[bytes, bool] | None = None  # the number of the answer we are in, and whether it is to us
        self._answer: list[str] = []

    def feed(self, data: bytes) -> Iterator[Output | Answer | Notice]:
        for line in self._lines.feed(data):
            yield from self._heard(line)

    def _heard(self, line: bytes) -> Iterator[Output | Answer | Notice]:
        name, _, rest = line.partition(b" ")
        if self._open is not None:
            number, ours = self._open
            if name in (b"%end", b"%error") and rest.split(b" ")[:2] == number.split(b" "):
                self._open = None
                if ours:
                    yield Answer(name == b"%end", tuple(self._answer))
            elif len(self._answer) < ANSWER_LINES:
                self._answer.append(line.decode(errors="replace"))
        elif name == b"%begin":
            time, number, flags = [*rest.split(b" "), b"", b"0"][:3]
            self._open = time + b" " + number, bool(int(flags) & OURS)
            self._answer = []
        elif name == b"%output":
            pane, _, escaped = rest.partition(b" ")
            yield Output(pane.decode(errors="replace"), _ESCAPED.sub(lambda found: _BYTE[found[1]], escaped))
        elif name.startswith(b"%"):
            yield Notice(name[1:].decode(errors="replace"), rest.decode(errors="replace"))


class Uncooked:
    """Takes back what the terminal did to a program's output: each LF it turned into CR LF (ONLCR, termios(3)).

    Exact as long as the terminal does so; a program that switches that off and writes CR LF itself loses the CR.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held
