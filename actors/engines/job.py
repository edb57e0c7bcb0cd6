"""One command in a session, whatever the session runs on: its output, and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from actors.engine import RunFailed
from actors.secrets import Masking, Secrets

__all__ = ["TAIL_BYTES", "Job"]

TAIL_BYTES = 1 << 16
"""How much of its output a result holds."""

Sink = Callable[[bytes], Awaitable[None]]


class Job:
    """One command in a session.

    `done`: it has ended, with `status`, or None when the session was hung up. `settled`: that, or its output could not
    be kept, which is `error`. `before`: who was in the process tree when it began, None while it was not told to.
    """

    def __init__(self, sink: Sink | None = None, *, masking: Masking | None = None) -> None:
        self.before: frozenset[tuple[int, int]] | None = None
        self.begun = trio.Event()
        self.done = trio.Event()
        self.settled = trio.Event()
        self.status: int | None = None
        self.error: RunFailed | None = None
        self.killed = False
        self.gap = False  # some of its output was not heard
        self.output_bytes = 0
        self.tail = b""
        self._sink = sink
        self._masking = masking or Secrets().stream()

    async def take(self, output: bytes, *, last: bool = False) -> None:
        """Keep and pass on a piece of output, without secrets. Once that failed the rest is only counted.

        `last`: nothing follows, so nothing is held back.
        """
        if not self.begun.is_set() or self.done.is_set():
            return
        output = self._masking.feed(output) + (self._masking.rest() if last else b"")
        self.output_bytes += len(output)
        self.tail = (self.tail + output)[-TAIL_BYTES:]
        if self._sink is None or not output:
            return
        try:
            await self._sink(output)
        except RunFailed as error:
            self._sink, self.error = None, error
            self.settled.set()
        except trio.ClosedResourceError:  # the run did not wait for its last words
            self._sink = None

    async def join(self, sink: Sink) -> None:
        """Pass on what is kept so far, and all that follows; for a command whose output nobody took until now."""
        self._sink = sink
        await sink(self.tail)

    @property
    def text(self) -> str:
        """The tail, from its first whole character on."""
        cut = next((i for i, byte in enumerate(self.tail[:4]) if byte & 0xC0 != 0x80), 0)
        return self.tail[cut if self.truncated else 0 :].decode(errors="replace")

    @property
    def truncated(self) -> bool:
        return self.output_bytes > len(self.tail)
