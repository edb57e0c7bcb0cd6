"""The daemon's side of the helper program: started with the first tree, gone with the last.

One guardian serves all houses of this Python process. It is counted, not owned: whoever has a tree holds it, and so
does `hold_guardian()`, which a house keeps open for its whole life so that a restarting engine need not wait for a new
interpreter (15 ms). A guardian that somebody killed is replaced at the next request.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import trio

START_S = 2.0  # a guardian that takes no request for this long is as good as dead
AGAIN_S = 0.1  # how often one that says nothing is woken
LEAVE_S = 2.0  # it leaves in a millisecond unless something below it cannot be killed

ROOT = str(Path(__file__).parents[2])

# The packages' own __init__ would import trio and all of actors into a program that must stay small: bare ones
# stand in for them.
PROGRAM = """
import sys
for name in ("actors", "actors.processes"):
    package = sys.modules[name] = type(sys)(name)
    package.__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
from actors.processes import keeper
getattr(keeper, sys.argv[2])(*sys.argv[3:])
"""
"""Runs a function of `keeper` in a Python of its own; argv: the folder of our packages, the function, its arguments."""


class Guardian:
    """The helper process, while anybody needs it. Usable from several threads: its state changes under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    @property
    def pid(self) -> int | None:
        """None while nobody needed it."""
        running = self._running
        return running[0].pid if running else None

    def join(self) -> None:
        """Hold it. Starts nothing."""
        with self._lock:
            self._holders += 1

    async def leave(self) -> None:
        """Let go; the last one ends it, and waits at most `LEAVE_S` until it is seen gone, also when cancelled."""
        with self._lock:
            self._holders -= 1
            last, self._running = (None, self._running) if self._holders else (self._running, None)
        if last is not None:
            await _bury(*last)

    def keep(self) -> socket.socket:
        """A new keeper; the result is our end of its socket, and closing that kills whatever the keeper started.

        It counts as one that holds the guardian, so `leave` is to follow. Raises OSError when the helper cannot be
        started. That a keeper could not be forked is seen as the end of its socket.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, self._lock:
            try:
                try:
                    self._request(theirs)
                except (BrokenPipeError, ConnectionResetError):  # killed from outside: once more, with a new one
                    self._forget()
                    self._request(theirs)
            except BaseException:
                ours.close()
                raise
            self._holders += 1
        return ours

    def wake(self) -> None:
        """Let it go on, when somebody has stopped it."""
        running = self._running
        if running is not None:
            running[0].send_signal(signal.SIGCONT)

    async def alone(self, within_s: float) -> bool:
        """Wait until nothing is below it but keepers: what a killed keeper left fell to it, and it kills that.

        False when it does not say so in time. True also when it was killed itself: then nothing can be below it.
        """
        answer, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                with self._lock:
                    if self._running is None:
                        return True
                    _, ours = self._running
                    socket.send_fds(ours, [marshal.dumps(("strays",))], [theirs])
            except OSError:
                return True
            finally:
                os.close(theirs)
            with trio.move_on_after(within_s):
                while True:
                    self.wake()  # who has stopped it may do so again
                    with trio.move_on_after(AGAIN_S):
                        await trio.lowlevel.wait_readable(answer)
                        return True
        finally:
            os.close(answer)
        return False

    def _request(self, theirs: socket.socket) -> None:
        if self._running is None:
            self._running = _start()
        self.wake()
        socket.send_fds(self._running[1], [marshal.dumps(("keep",))], [theirs.fileno()])

    def _forget(self) -> None:
        if self._running is not None:
            process, ours = self._running
            ours.close()
            process.kill()
            process.wait()
            self._running = None


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(START_S)
    with theirs:
        # Its environment is empty: no secret of ours can be read from it, and no child can inherit one.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, ROOT, "main"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
    return process, ours


async def _bury(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    pidfd = os.pidfd_open(process.pid)
    ours.close()
    process.send_signal(signal.SIGCONT)
    try:
        with trio.move_on_after(LEAVE_S, shield=True):
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
        # Not gone: something below it cannot be killed. It stays on as its parent, and the next Popen reaps it.
        process.poll()


guardian = Guardian()


@contextlib.asynccontextmanager
async def hold_guardian() -> AsyncIterator[None]:
    """While open, the guardian stays once it was started. Starts nothing; leaves no process behind."""
    guardian.join()
    try:
        yield
    finally:
        with trio.move_on_after(2 * LEAVE_S, shield=True):
            await guardian.leave()
