"""One started program: its streams, its end, its terminal.

The program is not our child but its keeper's (`keeper.py`), so nothing here waits for pids: the keeper writes the exit
status on a pipe of this process alone, and that the pipe has ended is known to any number of waiters. Signals travel
through the keeper too, because only a parent knows for certain whom a pid means.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Callable

import trio

from actors.processes.streams import Streams, Terminal


class Process:
    """A program that `Tree.spawn` started. It leads its own session and process group.

    `stdin`, `stdout` and `stderr` are ours to close; on a terminal the first two are one `Terminal`, the third is None.
    """

    def __init__(self, pid: int, streams: Streams, report: int, send: Callable[[int], None]) -> None:
        self.pid = pid
        self.stdin: trio.abc.SendStream | None = streams.stdin
        self.stdout: trio.abc.ReceiveStream = streams.stdout
        self.stderr: trio.abc.ReceiveStream | None = streams.stderr
        self._streams = streams
        self._report = report
        self._send = send
        self._returncode: int | None = None
        self._watching = trio.Lock()
        os.set_blocking(report, False)

    def __repr__(self) -> str:
        return f"<Process {self.pid} returncode={self.returncode}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self._returncode is None:
            with contextlib.suppress(BlockingIOError):
                # An end without a word: the keeper was killed, and the kernel killed its children with it.
                self._returncode = int(os.read(self._report, 64) or -signal.SIGKILL)
                trio.lowlevel.notify_closing(self._report)
                os.close(self._report)
        return self._returncode

    async def wait(self) -> int:
        """Wait until the program has ended; the result is its `returncode`. Output may still be in the streams.

        Any number of tasks may wait. Cancelling one leaves the program and the other waiters alone.
        """
        async with self._watching:
            while (returncode := self.returncode) is None:
                # Closed under us: another look at `returncode` took the status first.
                with contextlib.suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_readable(self._report)
        return returncode

    def signal(self, signum: int) -> None:
        """Signal the program and the process group it leads. Does nothing once it has ended."""
        if self.returncode is None:
            self._send(signum)

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of the terminal in characters; its foreground programs get SIGWINCH. ValueError without one."""
        if not isinstance(self.stdout, Terminal):
            raise ValueError("this program was not started on a terminal")  # noqa: TRY004 - no argument is of a wrong type
        termios.tcsetwinsize(self.stdout.fd, (rows, cols))

    def forget(self) -> None:
        """Hear no more of its end: its tree is left to somebody else. `wait` is not to be used after this."""
        if self.returncode is None:
            self._returncode = -signal.SIGKILL
            trio.lowlevel.notify_closing(self._report)
            os.close(self._report)
        self._streams.close()

    async def aclose(self) -> None:
        """Close our ends of the streams. The program is not ended; `wait` goes on to work."""
        self._streams.close()
        await trio.lowlevel.checkpoint()
