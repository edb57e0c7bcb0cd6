"""A program that runs as long as its engine does: what it says is read at once and always, and how it ended is told.

Standard error is for people: its lines are logged, and the last of them are kept for the sentence that says why the
program is gone. What is said to the program waits in a short queue with a task of its own, so a program that does not
read can hold up nobody, and a line is never left half written because somebody was cancelled.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from actors.context import Context
from actors.engine import CannotStart
from actors.lines import Lines, LineTooLong
from actors.processes import Process
from actors.told import Told

__all__ = ["LOG_LINE_BYTES", "Program", "ProgramFailed"]

LOG_LINE_BYTES = 8 << 10
LAST_LINES, LAST_BYTES = 20, 4 << 10
SAID_CHARS = 8 << 10
WAITING = 64
"""How many messages may wait for the program to read them."""

DRAIN_S = 0.5
"""How long its last words may take when the program has ended and a child of its holds the pipes open."""

READ_BYTES = 1 << 16


class ProgramFailed(Told):
    """The program is gone, or had to be given up, though nobody asked it to end; the sentence says how."""


class Program:
    """See the module. `ended`: it has, and everything it said was read, or nobody attends to it any more.

    Args:
        name: What sentences call it.
        process: Started with pipes.
        lines: Cuts standard output.
        heard: Takes each line of standard output. What comes after the last LF is `half`.
        noticed: Takes each line of standard error.
        masked: Whether secrets are taken out of standard output. Not where it is a language: that would garble it, and
            what it says is masked when it has been understood.
        kept, kept_error: Take all bytes of standard output and standard error, as they come, without secrets.
    """

    def __init__(
        self,
        name: str,
        process: Process,
        *,
        lines: Lines,
        heard: Callable[[bytes], Awaitable[None]],
        noticed: Callable[[str], None],
        masked: bool = False,
        kept: Callable[[bytes], None] | None = None,
        kept_error: Callable[[bytes], None] | None = None,
    ) -> None:
        self.name = name
        self.process = process
        self.ended = trio.Event()
        self.half = b""
        self.blame = ""
        self._for_good = False
        self._lines, self._heard, self._noticed, self._masked = lines, heard, noticed, masked
        self._kept, self._kept_error = kept or _nowhere, kept_error or _nowhere
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._say, self._said = trio.open_memory_channel[bytes](WAITING)

    def say(self, line: bytes) -> None:
        """Have the program told. Raises ProgramFailed when it reads nothing; a program that is gone is told nothing."""
        try:
            self._say.send_nowait(line)
        except trio.WouldBlock:
            raise ProgramFailed(self.sentence(f"does not read its standard input: {WAITING} messages wait")) from None
        except trio.BrokenResourceError:
            return

    def give_up(self, blame: str, *, for_good: bool = False) -> None:
        """Kill it, and hear it no more, but for its last words on standard error; `blame` goes into the sentence that
        is made when `attend` has ended. `for_good`: no retry can mend it.
        """
        self.blame, self._for_good = blame, for_good
        self.process.signal(signal.SIGKILL)

    def sentence(self, what: str) -> str:
        """`what` as a sentence about the program, with its last lines on standard error. Of what is long, which the
        program may have said itself, only the beginning.
        """
        what = what if len(what) <= SAID_CHARS else f"{what[:SAID_CHARS]}..."
        last = "\n".join(self._last)[-LAST_BYTES:]
        return f"{self.name} {what}." + (f" Its last lines on standard error:\n{last}" if last else "")

    def verdict(self) -> Exception:
        """What to raise about one that was given up, once `attend` has ended."""
        return (CannotStart if self._for_good else ProgramFailed)(self.sentence(self.blame))

    async def attend(self, ctx: Context) -> int:
        """Run its streams until it has ended: its exit status, negative for a signal. Cancelled: they are closed.

        For a line that is too long it is given up. Raises what `heard` raises.
        """
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(self._write)
                silent = trio.Event()
                nursery.start_soon(self._read, ctx, silent)
                async with ctx.process_wait():
                    code = await self.process.wait()
                with trio.move_on_after(DRAIN_S):
                    await silent.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._said.close()
            with trio.CancelScope(shield=True):
                await self.process.aclose()
            self.ended.set()
        return code

    async def _read(self, ctx: Context, silent: trio.Event) -> None:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(self._read_output, ctx)
            if self.process.stderr is not None:
                nursery.start_soon(self._read_error, ctx, self.process.stderr)
        silent.set()

    async def _read_output(self, ctx: Context) -> None:
        masking = ctx.masking() if self._masked else None
        try:
            while data := await _receive(ctx, self.process.stdout):
                data = masking.feed(data) if masking else data
                self._kept(data)
                await self._hear(data)
            if masking:
                self._kept(rest := masking.rest())
                await self._hear(rest)
        except LineTooLong as error:
            begins = ctx.masking().feed(error.begins)
            self.give_up(f"does not speak the protocol: {error}, {begins[:40].decode(errors='replace')!r}...")
            return
        self.half = self._lines.rest()

    async def _hear(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            if not self.blame:
                await self._heard(line)

    async def _read_error(self, ctx: Context, stderr: trio.abc.ReceiveStream) -> None:
        lines, masking = Lines(LOG_LINE_BYTES, cut=True), ctx.masking()
        while data := await _receive(ctx, stderr):
            data = masking.feed(data)  # before anything is cut: half a secret would not be known
            self._kept_error(data)
            for line in lines.feed(data):
                self._notice(line)
        self._kept_error(rest := masking.rest())
        for line in lines.feed(rest):
            self._notice(line)
        if rest := lines.rest():
            self._notice(rest)

    def _notice(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._last.append(text)
        self._noticed(text)

    async def _write(self) -> None:
        assert self.process.stdin is not None
        # A program may close its standard input and work on; that it ended is for `attend` to see.
        with suppress(trio.BrokenResourceError):
            async for line in self._said:
                await self.process.stdin.send_all(line)
        self._said.close()


def _nowhere(data: bytes) -> None:
    pass


async def _receive(ctx: Context, stream: trio.abc.ReceiveStream) -> bytes:
    async with ctx.process_wait():
        return bytes(await stream.receive_some(READ_BYTES))
