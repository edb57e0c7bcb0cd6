"""One shell on a terminal, kept for many commands.

The terminal carries output alone. The shell reads what it shall do from a pipe, so nothing is typed: no echo, no
prompt, no line editor, no limit on the length of a line (canonical mode has one, termios(3)), and no input that a
command could take from the next one. A command is a file without a name (memfd_create(2)) that the shell sources:
here-documents, syntax errors and binary bytes stay inside it. Before it the shell writes one mark to the terminal,
after it another with the exit status; the order to write the second follows the first, because some shells drop what
they have read ahead when a command is interrupted.

The shell is interactive, for that alone lets Ctrl-C end a loop and spare the shell, and gives every command a process
group of its own to be signalled. What it says of itself, such as prompts, goes to /dev/null. A command's standard input
is a file, or /dev/null: a program that asks a question gets the end of file and not silence.

No program may look at us, so the shell is given descriptors of its own: the pipe, and two files that every command is
written into anew. What it runs inherits these two, at numbers that scripts seldom use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import termios
from collections.abc import Mapping
from pathlib import PurePath

import trio

from actors.context import Context
from actors.engines.job import Job
from actors.engines.marks import Marks
from actors.engines.programs import Bounds
from actors.processes import Process
from actors.processes.streams import Descriptors, Terminal, pipe
from protocol.trace import Trace

__all__ = ["LADDER", "PREPARE", "Session"]

READ_BYTES = 1 << 16
DRAIN_S = 0.2
"""How long output may still come when the shell has ended and a process that it left behind holds the terminal open."""

LADDER = ((signal.SIGINT, 0.5), (signal.SIGINT, 1.5), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
"""How a command is brought to an end: each signal, and how long it has to answer. The first is lost on a child that has
the terminal already and the shell's own signal handlers still (between fork and exec)."""

KILLED_S = 0.3
"""How long a command has to end that was killed while it was frozen."""

BEGIN_S = 2.0
"""How long the shell has to begin a command that is not wanted any more."""

FLAGS = {"bash": ("--norc", "--noprofile", "--noediting", "-i")}

PREPARE = 'unset HISTFILE; HISTSIZE=0; ( : ); stty() { command stty "$@" </dev/tty; }'
"""The first command of a session. The subshell makes bash note the terminal's modes as they are then, to which it goes
back after a job that was killed; `stty` means the terminal, which is not the standard input here."""

ORDERS = 3
"""Where the shell gets the pipe, and behind it the two files."""

COMMAND, STDIN = 6, 7
"""Where it has the files of a command."""

TIOCGPTPEER = 0x5441
"""Opens the other side of a terminal without its name (ioctl_tty(2), Linux 4.13); `termios` knows it from 3.13 on."""

START = f'exec "$@" <&{ORDERS} {COMMAND}<&4 {STDIN}<&5 {ORDERS}<&- 4<&- 5<&- >/dev/null 2>&1'
"""What becomes the shell."""


class Session:
    """See the module. Make one with `open`, and give `attend` a task; whoever opened it calls `close`."""

    prepare = PREPARE

    def __init__(self, ctx: Context, process: Process, orders: int, files: dict[int, int]) -> None:
        terminal = process.stdout
        assert isinstance(terminal, Terminal)
        self._ctx = ctx
        self._process = process
        self._terminal = terminal
        # Between two commands nobody else may have the terminal open, and that would read as its end.
        self._other_side = fcntl.ioctl(terminal.fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._eof = trio.Event()
        self._closed = False
        self._orders = orders
        self._traced = ctx.trace is not None  # the shell's environment names a trace
        self.job: Job | None = None  # the command in hand
        self._marks = Marks()  # of its own
        self._files = files  # ours, by the number that the shell has them at

    @classmethod
    async def open(
        cls, ctx: Context, shell: str, *, env: Mapping[str, str], size: tuple[int, int], bounds: Bounds
    ) -> Session:
        """Start the shell. Raises SpawnFailed for a wrong directory; cancelled: nothing is left.

        Whether the shell works shows with its first job, which should be `PREPARE`.
        """
        with Descriptors() as owned, Descriptors() as given:
            heard, orders = pipe(given, owned)
            os.set_blocking(orders, False)
            files = {number: owned.own(os.memfd_create("command", os.MFD_CLOEXEC)) for number in (COMMAND, STDIN)}
            readable = [
                given.own(os.open(f"/proc/self/fd/{one}", os.O_RDONLY | os.O_CLOEXEC)) for one in files.values()
            ]
            start = ["/bin/sh", "-c", START, "sh", shell, *FLAGS.get(PurePath(shell).name, ("-i",))]
            process = await ctx.spawn_process(start, env=env, pty=size, descriptors=[heard, *readable], **bounds)
            owned.pop_all()
        return cls(ctx, process, orders, files)

    @property
    def usable(self) -> bool:
        return not self._closed and self._process.returncode is None

    def begin(self, job: Job, command: str, stdin: str | None = None, trace: Trace | None = None) -> None:
        """Have the shell run a command; there is one at a time. Its output comes out as the program wrote it. What it
        starts finds `trace` in the environment, and nothing of an earlier command's.
        """
        job.before = self._ctx.alive()
        self.job, self._marks = job, Marks()
        with contextlib.suppress(termios.error):
            modes = termios.tcgetattr(self._terminal.fd)
            modes[1] &= ~termios.OPOST
            modes[3] &= ~termios.ECHO
            termios.tcsetattr(self._terminal.fd, termios.TCSANOW, modes)
        source = self._file(command, COMMAND)
        feed = "/dev/null" if stdin is None else self._file(stdin, STDIN)
        told = ""
        if trace is not None:
            told = f"export TRACEPARENT={trace.parent} TRACESTATE={shlex.quote(trace.state)}; "
        elif self._traced:
            told = "unset TRACEPARENT TRACESTATE; "
        self._traced = trace is not None
        self._order(f"{told}{self._print('begin')}; . {source} <{feed} >/dev/tty 2>&1")

    async def end(self, job: Job) -> None:
        """Bring the command to its end: the ladder to it alone; then whatever else it started, also what left its
        process group; and when nothing helps the shell. Jobs of earlier commands stay.
        """
        with trio.move_on_after(BEGIN_S):
            await job.begun.wait()
        if job.killed:  # what was stopped then ends when it goes on; a signal now could reach the shell instead
            with trio.move_on_after(KILLED_S):
                await job.done.wait()
        for signum, answer_s in LADDER:
            if job.done.is_set():
                break
            self._signal(signum)
            with trio.move_on_after(answer_s):
                await job.done.wait()
        if job.before is not None:
            await self._ctx.end_newer(job.before, self._process.pid)
        with trio.move_on_after(KILLED_S):
            await job.done.wait()
        if not job.done.is_set():
            self._process.signal(signal.SIGKILL)
            await job.done.wait()

    def kill(self, job: Job) -> None:
        """SIGKILL to the command alone; whoever cannot wait for its end, because all is frozen, does no more.

        The shell itself, stopped between two commands or at work in one of its own, is interrupted: it is the session.
        """
        job.killed = True
        self._signal(signal.SIGKILL, shell=signal.SIGINT)

    def close(self) -> None:
        """Hang up: the shell, and what it runs, get SIGHUP; what runs in the foreground gets SIGTERM. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._signal(signal.SIGTERM)
        self._let_go()
        self._terminal.close()
        for descriptor in (self._orders, *self._files.values()):
            os.close(descriptor)
        self._finish(None)

    async def attend(self, ctx: Context) -> None:
        """Read the terminal until the shell has ended; always, for a program that nobody reads from stops."""
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(self._read, ctx)
                async with ctx.process_wait():
                    await self._process.wait()
                self._let_go()
                with trio.move_on_after(DRAIN_S):
                    await self._eof.wait()
                nursery.cancel_scope.cancel()
        finally:
            code = self._process.returncode
            self._finish(code if code is None or code >= 0 else 128 - code)
            self.close()

    def _let_go(self) -> None:
        if self._other_side >= 0:
            os.close(self._other_side)
            self._other_side = -1

    async def _read(self, ctx: Context) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            while data := await self._receive(ctx):
                if self.job is not None:
                    await self._heard_from(self.job, data)
            if self.job is not None:
                await self.job.take(self._marks.rest(), last=True)
        self._eof.set()

    async def _receive(self, ctx: Context) -> bytes:
        async with ctx.process_wait():
            return await self._terminal.receive_some(READ_BYTES)

    async def _heard_from(self, job: Job, data: bytes) -> None:
        for piece in self._marks.feed(data):
            if isinstance(piece, bytes):
                await job.take(piece)
            elif piece == "begin":
                job.begun.set()
                self._order(self._print('"$?"'))
            else:
                await job.take(b"", last=True)
                self._finish(int(piece))

    def _finish(self, status: int | None) -> None:
        job, self.job = self.job, None
        if job is not None:
            job.status = status
            job.done.set()
            job.settled.set()

    def _signal(self, signum: int, *, shell: int | None = None) -> None:
        """Signal the process group in the foreground: the command, or the shell when that is what works (with `shell`
        instead, where that is given).
        """
        with contextlib.suppress(OSError):
            group = os.tcgetpgrp(self._terminal.fd)
            if group > 0:
                os.killpg(group, shell if shell is not None and group == self._process.pid else signum)

    def _order(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, line.encode() + b"\n")

    def _print(self, word: str) -> str:
        return f"command printf '{self._marks.printf}' {word} >/dev/tty"

    def _file(self, text: str, number: int) -> str:
        """Write the file that the shell has at this number anew; its path there."""
        descriptor = self._files[number]
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        return f"/proc/self/fd/{number}"
