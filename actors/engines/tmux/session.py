"""One shell in a pane of a tmux server of its own: a session that people can attach to, and that outlives the house.

The shell is an ordinary one, at its prompt, and a run is a line typed there (`orders.py`). What the pane's terminal
carries comes through a control client (`control.py`), and where in it a command begins and ends is said by marks, as on
a terminal of our own. So what somebody types is seen in the pane and is nobody's output; a command that somebody has
started in the foreground is waited for, and a line that he was typing is given up (^C) when a run begins.

What is needed to go on after a restart of the house is in the engine's folder (`kept.py`, and the files of the command
in hand). A command that was in hand when the house went is `stray`: it is waited for, or ended, before anything else is
run.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import trio

from actors.context import Context
from actors.engine import CannotAdopt, RunFailed
from actors.engines.job import Job
from actors.engines.marks import HIDDEN, Marks
from actors.engines.programs import Bounds
from actors.engines.session import BEGIN_S, DRAIN_S, KILLED_S, LADDER
from actors.engines.tmux.control import Notice, Output, Uncooked
from actors.engines.tmux.kept import Kept
from actors.engines.tmux.orders import Orders, exports
from actors.engines.tmux.pane import Pane
from actors.engines.tmux.server import (
    ANSWER_S,
    Client,
    Gone,
    attach_command,
    described,
    found,
    gone,
    is_well,
    outside,
    respawned,
    said_by,
    started,
)
from actors.processes import linux
from actors.told import Told
from protocol.trace import Trace

__all__ = ["HEALTH_S", "ServerGone", "TmuxSession"]

HEALTH_S = 5.0
"""How often the server is asked whether it is well."""

PROMPT_S = 0.05
"""How often it is looked whether the shell is at its prompt; nobody tells."""

PROMPTED_S = 0.3
"""How long the prompt may take to come again; that it does is not said where a command has removed that."""

ATTACHES = 3
"""How many control clients in a row may be turned away by a server that is there."""

HUNG_UP = 128 + signal.SIGHUP
TERMS = ("tmux-256color", "screen-256color", "screen")


@dataclass(frozen=True, slots=True)
class Stray:
    """The command that was in hand when the last house went. `job`: None for one that had not begun, and never will."""

    run_id: str
    job: Job | None


class ServerGone(Told):
    """The tmux server has ended, or hangs: the engine's session went with it."""


class TmuxSession:
    """See the module. Make one with `open` or `adopt`, and give `attend` a task; it raises ServerGone."""

    def __init__(self, ctx: Context, shell: str, bounds: Bounds, kept: Kept) -> None:
        self._ctx, self._folder, self._bounds, self._kept = ctx, ctx.home, bounds, kept
        self._marks = Marks(kept.token, HIDDEN)
        self._orders = Orders(self._folder, shell, self._marks.printf)
        self._uncooked = Uncooked()
        self._pane = Pane(kept.holder)
        self._client: Client | None = None
        self._attached = trio.Event()
        self._wanted = trio.Event()
        self._prompted = trio.Event()
        self._left = trio.Event()  # nobody attends to it any more
        self._interrupted = False  # the command in hand, by us
        self._ended_ticks = 0  # when the last command ended
        self._newline = b""
        self._typed = False  # the order of the command in hand
        self._closed = self._ended = False
        self._told = ""  # what the next command is to set first
        self._traced = False
        self.job: Job | None = None
        self.stray: Stray | None = None

    # -- beginning ---------------------------------------------------------------------------------------------------
    @classmethod
    async def open(
        cls,
        ctx: Context,
        program: str,
        shell: str,
        *,
        env: Mapping[str, str],
        term: str | None,
        size: tuple[int, int],
        bounds: Bounds,
        after: TmuxSession | None = None,
    ) -> TmuxSession:
        """Start the server, unless there is one, and the shell in it; in the pane of the session before, if that is
        there, so that whoever is attached stays. Raises SpawnFailed, and RunFailed with what tmux says. Whether the
        shell works shows with its first command, which is to be `prepare`.
        """
        folder, token = ctx.home, secrets.token_hex(16)
        term = term or next(filter(described, TERMS), TERMS[-1])
        orders = Orders(folder, shell, Marks(token, HIDDEN).printf)
        orders.begin()
        pane = orders.pane
        said = ""
        if after is not None:
            with contextlib.suppress(RunFailed):
                argv = respawned(program, folder, after._kept.pane, pane)  # noqa: SLF001 - ours
                said = await said_by(ctx, argv, outside(bounds, folder), None)
        if not said:
            argv = started(program, folder, pane, size=size, term=term, shell=shell, title=ctx.engine_id)
            said = await said_by(ctx, argv, outside(bounds, folder), env)
        if after is not None:
            with trio.move_on_after(ANSWER_S):
                await after._left.wait()  # noqa: SLF001 - ours
        server, name, holder = said.split()
        kept = Kept(token, int(server), name, int(holder), program)
        if not _ours(ctx, kept):
            raise RunFailed("cannot-start", "tmux cannot be used: it names processes that are none of the engine's.")
        kept.save(folder)
        _bind(ctx, kept, bounds)
        return cls(ctx, shell, bounds, kept)

    @classmethod
    async def adopt(cls, ctx: Context, shell: str, *, bounds: Bounds) -> TmuxSession | None:
        """The session in the process tree that was taken over; None when there is none, and the tree is ended. `stray`
        says what is in hand there. Raises SpawnFailed, and CannotAdopt where there is no tmux to reach it with.
        """
        kept = Kept.load(ctx.home)
        if kept is not None:
            program = found(kept.program)
            if program is None:
                raise CannotAdopt("There is no program tmux in PATH; its session lives on: mend PATH and start it.")
            kept = replace(kept, program=program)
        if kept is None or not await is_well(ctx, kept.program, kept, bounds) or not _ours(ctx, kept):
            await ctx.discard()
            return None
        _bind(ctx, kept, bounds)
        session = cls(ctx, shell, bounds, kept)
        if kept.run_id is not None:
            job = Job(masking=ctx.masking())
            job.before = None if kept.before is None else frozenset(kept.before)
            job.begun.set()
            job.gap = session._typed = True
            session.job, session.stray = job, Stray(kept.run_id, job)
            if not kept.open:  # that it had ended was known, and perhaps not to the journal
                session._settle(kept.status)
        return session

    @property
    def prepare(self) -> str:
        return self._orders.prepare

    @property
    def program(self) -> str:
        """The tmux that it is reached with."""
        return self._kept.program

    @property
    def usable(self) -> bool:
        return not self._closed and not self._ended

    def terminal(self) -> dict[str, Any]:
        """What people are told, to attach."""
        return {"backend": "tmux", "socket": str(self._folder / "tmux"), "attach": attach_command(self._folder)}

    def set_next(self, env: Mapping[str, str]) -> None:
        """Have the next command set these in the shell: what its own environment has is out of date."""
        self._told = exports(env)

    async def ready(self) -> None:
        """Wait until it is heard what the session says, and known whether the stray command has ended meanwhile."""
        await self._attached.wait()

    # -- commands ----------------------------------------------------------------------------------------------------
    def begin(
        self, job: Job, command: str, stdin: str | None = None, trace: Trace | None = None, *, run_id: str | None = None
    ) -> None:
        """Have the shell run a command, as soon as it is at its prompt; there is one at a time. Raises OSError."""
        told, self._told = self._told, ""
        if trace is not None:
            told += exports({"TRACEPARENT": trace.parent, "TRACESTATE": trace.state})
        elif self._traced:
            told += "unset TRACEPARENT TRACESTATE; "
        self._traced = trace is not None
        kept = replace(self._kept, serial=self._kept.serial + 1, run_id=run_id, open=True, status=None, before=None)
        self._orders.write(kept.serial, command, stdin, told)
        kept.save(self._folder)
        self._kept, self.job, self._typed, self._interrupted = kept, job, False, False
        self._wanted.set()

    async def end(self, job: Job) -> None:
        """Bring the command to its end: the ladder to it alone; then whatever else it started in our pane; and when
        nothing helps the shell. What people have in the session stays.
        """
        if job is self.job and not self._typed:
            self._finish(None)
        elif not job.killed:
            with trio.move_on_after(BEGIN_S):
                await job.begun.wait()
            if not job.begun.is_set() and job is self.job and self._orders.withdraw(self._kept.serial):
                self._finish(None)
        else:
            with trio.move_on_after(KILLED_S):
                await job.done.wait()
        for signum, answer_s in LADDER:
            if job.done.is_set():
                break
            self._signal(signum)
            with trio.move_on_after(answer_s):
                await job.done.wait()
            if not job.done.is_set() and self._pane.at_prompt:
                with trio.move_on_after(answer_s), contextlib.suppress(Gone):
                    await self._type(self._orders.ending(self._kept.serial))
                    await job.done.wait()
        await self._sweep(job)
        with trio.move_on_after(KILLED_S):
            await job.done.wait()
        if not job.done.is_set():
            self._pane.kill_shell()
            await job.done.wait()

    async def _sweep(self, job: Job) -> None:
        """End what the command started and did not wait for: children of the shell, and orphans that come from our
        pane, by their terminal's session or the pane that tmux names in their environment. Not what somebody types once
        the command has ended (a hundredth of a second later, as the kernel counts), nor what comes from another window.
        """
        shell, pane = self._pane.shell, f"TMUX_PANE={self._kept.pane}".encode()
        if job.before is None or shell is None:
            return
        ended = self._ended_ticks if job.done.is_set() else None

        def meant(stat: linux.Stat) -> bool:
            if ended is not None and stat.start_ticks > ended:
                return False
            return stat.ppid == shell or stat.session == self._kept.holder or pane in linux.environment(stat.pid)

        await self._ctx.end_newer(job.before, shell, meant=meant)

    def kill(self, job: Job) -> None:
        """SIGKILL to the command alone, all being frozen; the shell itself, at work, is interrupted. One that was not
        typed yet never will be.
        """
        job.killed = True
        if self._typed:
            self._signal(signal.SIGKILL, shell=signal.SIGINT)
        else:
            self._finish(None)

    def close(self) -> None:
        """Detach, and leave the command in hand to itself: the tree ends, or is left to the next house. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._client is not None:
                self._client.close()
            self._settle(None)

    # -- the server --------------------------------------------------------------------------------------------------
    async def attend(self, ctx: Context) -> None:
        """Listen, type, and see to it that the server is well, until the pane is gone. Raises ServerGone; then the
        command in hand has no status, for its end was not its own.
        """
        lost = False
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                for task in (self._listen, self._type_orders, self._check, self._watch_server):
                    nursery.start_soon(task, ctx)
                await gone(ctx, self._kept.holder)
                if not self._closed:
                    await trio.sleep(DRAIN_S)
                if linux.read(self._kept.server) is None:  # it is the server's end, then, that is to be told
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()
        except* ServerGone:
            lost = True
            raise
        finally:
            self._ended = True
            if not self._closed and not ctx.leaving and not lost:
                self._finish(HUNG_UP)
            self.close()
            if self._client is not None:
                await self._client.aclose()  # noqa: ASYNC102 - shielded in there, for a moment
            self._left.set()

    async def _listen(self, ctx: Context) -> None:
        """Through one control client after another: anybody who is attached can detach ours."""
        turned_away, last = 0, ""
        while turned_away < ATTACHES:
            client = self._client = await Client.attach(ctx, self._kept.program, self._bounds)
            turned_away += 1
            async with contextlib.aclosing(client.events(ctx)) as events:
                async for event in events:
                    if isinstance(event, Output):
                        if event.pane == self._kept.pane:
                            await self._heard(event.data)
                    elif event.name == "session-changed":
                        turned_away = 0
                        self._look_for_stray()
                        self._attached.set()
                    last = event.rest if isinstance(event, Notice) and event.name == "exit" else ""
            await client.aclose()
            if self._closed:
                return
            self._attached = trio.Event()
            if self.job is not None:
                self.job.gap = True
            await trio.sleep(PROMPT_S)
        raise ServerGone(f"the tmux server lets no client in{f' ({last})' if last else ''}")

    async def _heard(self, data: bytes) -> None:
        for piece in self._marks.feed(self._uncooked.feed(data)):
            job, n = self.job, self._kept.serial
            if isinstance(piece, bytes):
                if job is not None:
                    await job.take(self._before_newline(piece))
            elif piece == "p":
                self._prompted.set()
            elif piece == f"b{n}" and job is not None:
                job.begun.set()
            elif piece.startswith(("x", f"e{n}x", f"i{n}x")):
                self._ended = self._ended or piece.startswith("x")
                newline, self._newline = b"" if piece.startswith("i") else self._newline, b""
                if job is not None:
                    await job.take(newline, last=True)
                    self._finish(int(piece.rpartition("x")[2]))

    def _before_newline(self, output: bytes) -> bytes:
        """An interrupted shell says LF before its prompt. Once we have interrupted it, what could be that waits."""
        if not self._interrupted:
            return output
        output = self._newline + output
        self._newline = b"\n" if output.endswith(b"\n") else b""
        return output.removesuffix(b"\n")

    def _look_for_stray(self) -> None:
        """What ended, or had not begun, while nobody listened: asked only now, when its end cannot be missed."""
        ended = self._orders.ended()
        if ended is not None:
            self._ended = True
            self._finish(ended)
        if self.job is None or not self.job.gap:
            return
        status = self._orders.status(self._kept.serial)
        if status is not None:
            self._finish(status)
        elif self.stray is not None and self.stray.job is self.job and self._orders.withdraw(self._kept.serial):
            self.stray = Stray(self.stray.run_id, None)
            self._finish(None)

    async def _check(self, ctx: Context) -> None:
        while True:
            await ctx.sleep(HEALTH_S)
            well = False
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(_after, ctx, ANSWER_S, nursery.cancel_scope)
                await self._attached.wait()
                assert self._client is not None
                with contextlib.suppress(Gone):  # detached: how the next is received will tell
                    await self._client.ask("display-message -p well")
                well = True
                nursery.cancel_scope.cancel()
            if not well:
                raise ServerGone(f"the tmux server, pid {self._kept.server}, has not answered within {ANSWER_S:g} s")

    async def _watch_server(self, ctx: Context) -> None:
        await gone(ctx, self._kept.server)
        raise ServerGone(f"the tmux server, pid {self._kept.server}, has ended")

    # -- the terminal ------------------------------------------------------------------------------------------------
    async def _type_orders(self, ctx: Context) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            job, said = self.job, False
            while job is not None and job is self.job and not self._typed:
                if self._pane.at_prompt:
                    await self._type_order()
                elif not said and self._pane.shell_group is not None and self._kept.serial > 1:
                    said = True
                    ctx.log("Something else is in the foreground of the session; the run waits for its end.")
                async with ctx.process_wait():
                    await trio.sleep(PROMPT_S)

    async def _type_order(self) -> None:
        """Once: should it not be known whether it was, it is typed again, and the first that is read counts."""
        n, self._typed = self._kept.serial, True
        self._note_before()
        try:
            if n > 1:  # a shell that has only just begun could die of it
                await self._give_up_line()
            await self._type(self._orders.typed(n))
        except Gone:
            self._typed = self._kept.serial != n or not self._orders.waits(n)

    def _note_before(self) -> None:
        if self.job is not None:
            self.job.before = self._ctx.alive()
            self._kept = replace(self._kept, before=tuple(self.job.before))
            with contextlib.suppress(OSError):  # at worst the next house leaves what the command started
                self._kept.save(self._folder)

    async def _give_up_line(self) -> None:
        """What somebody was typing. A shell may drop what it reads together with the interruption: its prompt first."""
        self._prompted = trio.Event()
        await self._type("\x03")
        with trio.move_on_after(PROMPTED_S):
            await self._prompted.wait()

    async def _type(self, text: str) -> None:
        """Into the pane, whatever whoever is attached looks at. Raises Gone."""
        await self._attached.wait()
        assert self._client is not None
        pane, keys = self._kept.pane, " ".join(f"{byte:02x}" for byte in text.encode("ascii"))
        await self._client.ask(f"copy-mode -q -t {pane}")
        await self._client.ask(f"send-keys -t {pane} -H {keys}")

    def _signal(self, signum: int, *, shell: int | None = None) -> None:
        self._interrupted = True
        self._pane.signal(signum, shell=shell)

    def _finish(self, status: int | None) -> None:
        self._orders.forget(self._kept.serial)
        self._kept = replace(self._kept, open=False, status=status)
        with contextlib.suppress(OSError):  # at worst the next house looks for a command that is not there
            self._kept.save(self._folder)
        self._settle(status)

    def _settle(self, status: int | None) -> None:
        job, self.job = self.job, None
        if job is not None:
            self._ended_ticks = linux.now_ticks()
            job.status = status
            job.done.set()
            job.settled.set()


def _ours(ctx: Context, kept: Kept) -> bool:
    """Whether the server and the holder are in the engine's process tree. They are the words of who is in the session,
    perhaps in a sandbox, and we signal and limit them, in none.
    """
    return {kept.server, kept.holder} <= {pid for pid, _ in ctx.alive()}


def _bind(ctx: Context, kept: Kept, bounds: Bounds) -> None:
    """The limits hold for the shell, and what stands around it."""
    for pid in (kept.holder, *linux.children(kept.holder)):
        with contextlib.suppress(ProcessLookupError):
            ctx.bind(pid, bounds["limits"])


async def _after(ctx: Context, seconds: float, scope: trio.CancelScope) -> None:
    await ctx.sleep(seconds)
    scope.cancel()
