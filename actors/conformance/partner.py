"""The house as a program sees it, for one life of the program: says what a check has it say, hears what comes.

A line that is none of the language's is kept in `broken` and otherwise passed over, so that one check tells it and the
others tell what else is wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from actors.engines import jsonl
from actors.lines import Lines, LineTooLong
from actors.processes import Process

__all__ = ["Failed", "Partner", "Skipped"]

LAST_LINES = 5
READ_BYTES = 1 << 16


class Failed(Exception):
    """What is expected was not met; the sentence says how."""


class Skipped(Exception):
    """It cannot be told here; the sentence says why."""


class Partner:
    """See the module. `heard`: every message, in order; `broken`: what is wrong with the lines that are none."""

    def __init__(self, process: Process) -> None:
        self.heard: list[jsonl.Message] = []
        self.broken: list[str] = []
        self.process = process
        self.code: int | None = None
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._changed = trio.Event()

    async def attend(self) -> None:
        """Read what it says until it has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._read_error)
            code = await self.process.wait()
        self.code = code
        self._tell()

    async def _read(self) -> None:
        lines = Lines(jsonl.LINE_BYTES)
        try:
            while data := await self.process.stdout.receive_some(READ_BYTES):
                for line in lines.feed(bytes(data)):
                    self._hear(line)
        except LineTooLong as error:
            self.broken.append(str(error))
            self._tell()
            while await self.process.stdout.receive_some(READ_BYTES):
                pass
        if rest := lines.rest():
            self.broken.append(f"its last line has no end: {rest[:80].decode(errors='replace')!r}")

    async def _read_error(self) -> None:
        assert self.process.stderr is not None
        lines = Lines(8 << 10, cut=True)
        while data := await self.process.stderr.receive_some(READ_BYTES):
            self._last += [line.decode(errors="replace") for line in lines.feed(bytes(data))]

    def _hear(self, line: bytes) -> None:
        try:
            message = jsonl.parse_line(line)
        except jsonl.Broken as error:
            self.broken.append(str(error))
        else:
            self.heard.append(message)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- saying ------------------------------------------------------------------------------------------------------
    async def say(self, type: str, **members: Any) -> None:
        await self.write(jsonl.say(type, **members))

    async def write(self, data: bytes) -> None:
        """Raises Failed when the program does not read it."""
        assert self.process.stdin is not None
        with trio.move_on_after(10) as limit, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.process.stdin.send_all(data)
        if limit.cancelled_caught:
            raise Failed("It does not read its standard input.")

    # -- waiting -----------------------------------------------------------------------------------------------------
    async def until(
        self, wanted: Callable[[jsonl.Message], bool], what: str, within_s: float, *, seen: int = 0
    ) -> jsonl.Message:
        """The first message that is wanted, also one that came already, but for the first `seen`. Raises Failed: it did
        not come in time.
        """
        with trio.move_on_after(within_s):
            while True:
                for message in self.heard[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.heard)
                if self.code is not None:
                    raise Failed(self.sentence(f"It ended {how(self.code)} before it said {what}"))
                await self._changed.wait()
        raise Failed(self.sentence(f"It did not say {what} within {within_s:g} s"))

    async def more(
        self, what: str, within_s: float, wanted: Callable[[jsonl.Message], bool] = lambda _: True
    ) -> jsonl.Message:
        """The same of what comes from now on."""
        return await self.until(wanted, what, within_s, seen=len(self.heard))

    async def end_of(self, run: str, within_s: float) -> jsonl.Message:
        return await self.until(lambda m: ends(m, run), f"`result` or `error` of the run {run}", within_s)

    async def gone(self, within_s: float, after: str) -> int:
        """How it ended. Raises Failed when it goes on."""
        with trio.move_on_after(within_s):
            while self.code is None:
                await self._changed.wait()
            return self.code
        raise Failed(self.sentence(f"It went on for {within_s:g} s after {after}"))

    def of(self, run: str, since: int = 0) -> list[jsonl.Message]:
        """What it said about a run."""
        return [message for message in self.heard[since:] if message.id == run]

    def sentence(self, what: str) -> str:
        """With what explains it: lines that were no messages, and its last words on standard error."""
        said = f" It said something that is no message: {self.broken[0]}." if self.broken else ""
        last = " Its last lines on standard error: " + " / ".join(self._last) if self._last else ""
        return f"{what}.{said}{last}"


def ends(message: jsonl.Message, run: str) -> bool:
    return isinstance(message, jsonl.Result | jsonl.Failure) and message.id == run


def how(code: int) -> str:
    return f"with exit status {code}" if code >= 0 else f"by signal {-code}"
