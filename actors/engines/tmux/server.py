"""The tmux server of one engine: whether there is a tmux that will do, how a server is started, and a client of it.

Each engine has a server of its own, on a socket in its own folder: so the server's process tree is the engine's, ends
and is frozen with it, and has its limits and its sandbox; and whoever brings one server down hurts no other engine. It
reads no configuration (`-f /dev/null`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import trio

from actors.children import CONTROLLER_OF, ResourceLimits
from actors.context import Context
from actors.engine import RunFailed
from actors.engines.programs import Bounds
from actors.engines.tmux.control import Answer, Control, Notice, Output
from actors.engines.tmux.kept import Kept
from actors.processes import Process

__all__ = [
    "ANSWER_S",
    "Client",
    "Gone",
    "attach_command",
    "described",
    "found",
    "gone",
    "is_well",
    "lacking",
    "outside",
    "respawned",
    "said_by",
    "started",
]

NEEDED = (3, 2)
SESSION = "main"
SOCKET = "tmux"
ANSWER_S = 5.0
"""A server that answers nothing for this long hangs."""

ADOPT_S = 20.0
"""A machine that has just come up, with all its engines at once, may be slow: whoever gives up ends a session."""

PATH_BYTES = 96
"""How long the path of an engine's folder may be: a socket's has at most 107 bytes (unix(7))."""

LEAVE_S = 0.5
READ_BYTES = 1 << 16
PLACED = "#{pid} #{pane_id} #{pane_pid}"
"""The server, the pane, and what runs in it."""

UNBOUND = ResourceLimits(cpu_s=1 << 30, memory_bytes=1 << 50, processes=1 << 30, file_bytes=1 << 50)
"""The server is not what an engine's limits are for: they hold for its shell."""

OPTIONS = (
    ("-s", "exit-empty", "off"),
    ("-s", "escape-time", "10"),
    ("-s", "set-clipboard", "off"),  # what a program prints must not reach the clipboard of who is attached
    ("-g", "remain-on-exit", "on"),
    ("-g", "history-limit", "10000"),
    ("-g", "allow-rename", "off"),
    ("-g", "automatic-rename", "off"),
    ("-g", "set-titles", "off"),
)


def outside(bounds: Bounds, folder: Path) -> Bounds:
    """Where tmux itself starts, the server and our clients: the limits of the engine's shell are not for it, but what
    bounds the whole tree is, and its sandbox, with the folder in it. Also the clients: whoever is in the session can
    be their server, and a server can have a client run commands, read files and write them.
    """
    of_tree = {name: getattr(bounds["limits"], name) for name in CONTROLLER_OF}
    sandbox = bounds["sandbox"]
    if sandbox is not None:
        sandbox = replace(sandbox, write=(*sandbox.write, str(folder)))
    return {**bounds, "limits": replace(UNBOUND, **of_tree), "sandbox": sandbox}


class Gone(Exception):
    """The client has ended, or tmux refused; the sentence says what it said."""


def lacking(folder: str | None) -> str | None:
    """What is missing here for sessions on tmux, with sockets below a folder, as a sentence. Starts `tmux -V`."""
    program = shutil.which("tmux")
    if program is None:
        return "there is no program tmux in PATH; install it, or use the backend pty"
    try:
        said = subprocess.run([program, "-V"], capture_output=True, timeout=10, check=False).stdout.decode().strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not work ({error})"
    found = re.search(r"(\d+)\.(\d+)", said)  # "tmux 3.3a", "tmux next-3.5"; "tmux master" has none
    if found is not None and (int(found[1]), int(found[2])) < NEEDED:
        return f"{program} is {said!r}, and {NEEDED[0]}.{NEEDED[1]} or newer is needed"
    if folder is not None and (len(folder.encode()) > PATH_BYTES - 13 or not folder.isascii()):
        return f"the path {folder!r} cannot hold sockets: it must be ASCII, and at most {PATH_BYTES - 13} bytes long"
    return None


def found(remembered: str = "") -> str | None:
    """The absolute path of a tmux: the one that is remembered while it is there, else what is in PATH."""
    there = shutil.which(remembered) or shutil.which("tmux")
    return there and os.path.abspath(there)  # noqa: PTH100 - without a look at links


def called(program: str, folder: Path, *words: str) -> list[str]:
    """A tmux command for the server in that folder."""
    return [program, "-S", str(folder / SOCKET), "-f", "/dev/null", *words]


def attach_command(folder: Path) -> list[str]:
    """What a person runs to attach."""
    return ["tmux", "-S", str(folder / SOCKET), "attach", "-t", f"={SESSION}"]


def respawned(program: str, folder: Path, name: str, pane: Sequence[str]) -> list[str]:
    """The command that puts another program in a pane; it prints the same as `started`."""
    words = ["respawn-pane", "-k", "-t", name, "-c", "/proc/self/cwd", *pane, ";"]
    return called(program, folder, *words, "display-message", "-p", "-t", name, PLACED)


def started(
    program: str, folder: Path, pane: Sequence[str], *, size: tuple[int, int], term: str, shell: str, title: str
) -> list[str]:
    """The command that starts a server, unless there is one, with the session in it; it prints `PLACED`."""
    rows, cols = size
    words: list[str] = []
    for option in (*OPTIONS, ("-g", "default-terminal", term), ("-g", "default-shell", shell),
                   ("-g", "status-left", f"[{title}] ")):  # fmt: skip
        words += ["set", *option, ";"]
    words += ["set", "-g", "status-left-length", "70", ";"]
    words += ["new-session", "-d", "-P", "-F", PLACED, "-s", SESSION, "-n", "engine"]
    # The server stands where the engine's config says, however that was reached: its directory, not its path.
    words += ["-x", str(cols), "-y", str(rows), "-c", "/proc/self/cwd", *pane, ";"]
    # After it whoever attaches changes nothing of the size. Set as an option before, it ends tmux 3.3a.
    return called(program, folder, *words, "resize-window", "-t", f"={SESSION}:", "-x", str(cols), "-y", str(rows))


class Client:
    """A control client. Give `events` to one task; any may `ask`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._control = Control()
        self._asked: deque[tuple[trio.Event, list[Answer]]] = deque()
        self._closed = False
        self._sending = trio.Lock()

    @classmethod
    async def attach(cls, ctx: Context, program: str, bounds: Bounds) -> Client:
        """Raises SpawnFailed. That it is not let in shows as the end of its events."""
        argv = called(program, ctx.home, "-C", "attach", "-t", f"={SESSION}:")
        return cls(await ctx.spawn_process(argv, merge_stderr=True, **outside(bounds, ctx.home)))

    async def events(self, ctx: Context) -> AsyncGenerator[Output | Notice, None]:
        """What it hears, until it ends."""
        try:
            while data := await self._receive(ctx):
                for event in self._control.feed(data):
                    if isinstance(event, Answer):
                        if self._asked:
                            answered, answers = self._asked.popleft()
                            answers.append(event)
                            answered.set()
                    else:
                        yield event
        finally:
            self.close()

    async def ask(self, command: str) -> tuple[str, ...]:
        """The lines of tmux's answer. Raises Gone."""
        answered, answers = trio.Event(), list[Answer]()
        async with self._sending:
            if self._closed:
                raise Gone("the control client has ended")
            self._asked.append((answered, answers))
            try:
                assert self._process.stdin is not None
                with trio.CancelScope(shield=True):  # half a command would spoil the next; it is shorter than a pipe
                    await self._process.stdin.send_all(command.encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Gone("the control client has ended") from None
        await answered.wait()
        if not answers:
            raise Gone("the control client has ended")
        if not answers[0].ok:
            raise Gone(f"tmux refused: {' '.join(answers[0].lines)[:200]}")
        return answers[0].lines

    def close(self) -> None:
        """It detaches. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for stream in (self._process.stdin, self._process.stdout):
            assert isinstance(stream, trio.lowlevel.FdStream)
            stream.close()
        while self._asked:
            self._asked.popleft()[0].set()

    async def aclose(self) -> None:
        """The same, and see it gone, also when cancelled: it needs a moment."""
        self.close()
        with trio.move_on_after(LEAVE_S, shield=True):
            await self._process.wait()

    async def _receive(self, ctx: Context) -> bytes:
        try:
            async with ctx.process_wait():
                return bytes(await self._process.stdout.receive_some(READ_BYTES))
        except trio.ClosedResourceError:
            return b""


async def is_well(ctx: Context, program: str, kept: Kept, bounds: Bounds) -> bool:
    """Whether the session is there as it was left, and had got as far as to take commands."""
    asked = "#{pid} #{pane_id} #{pane_pid} #{pane_dead}"
    where = called(program, ctx.home, "display-message", "-p", "-t", kept.pane, asked)
    try:
        said = await said_by(ctx, where, outside(bounds, ctx.home), None, within_s=ADOPT_S)
    except RunFailed:
        return False
    return said.split() == [str(kept.server), kept.pane, str(kept.holder), "0"] and (
        kept.serial > 1 or (not kept.open and kept.status == 0)
    )


async def gone(ctx: Context, pid: int) -> None:
    """Wait for the end of a process."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        async with ctx.process_wait():
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)


async def said_by(
    ctx: Context, argv: list[str], bounds: Bounds, env: Mapping[str, str] | None, *, within_s: float | None = None
) -> str:
    """What a tmux command prints. Raises SpawnFailed, and RunFailed with what it says when it fails or hangs."""
    process = await ctx.spawn_process(argv, env=env, merge_stderr=True, **bounds)
    said = b""
    with trio.move_on_after(ANSWER_S if within_s is None else within_s) as limit:
        try:
            while data := await process.stdout.receive_some(4096):
                said = (said + data)[:4096]
            await process.wait()
        finally:
            if process.returncode is None:
                process.signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.aclose()
    if limit.cancelled_caught or process.returncode:
        why = "does not answer" if limit.cancelled_caught else said.decode(errors="replace").strip()[:300]
        raise RunFailed("cannot-start", f"tmux cannot be used: {why}.")
    return said.decode(errors="replace")


def described(term: str) -> bool:
    """Whether this machine knows what that terminal can do."""
    return any(
        Path(folder, term[0], term).exists() for folder in ("/usr/share/terminfo", "/lib/terminfo", "/etc/terminfo")
    )
