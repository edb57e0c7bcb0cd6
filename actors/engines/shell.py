"""The shell kind: one session, and every run is a command in it. How that works is told in `session.py`.

What a command leaves in the session stays: directory, variables, functions, background jobs. What these write during a
run is part of its output; between runs it is dropped. A command that is cancelled, or whose time is over, leaves no
process. A session ends when its shell does (`exit 3`, a crash): the run
in hand ends with that status, and the next run begins a new session.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import trio
from pydantic import BaseModel, ConfigDict, Field

from actors.children import ChildPolicy
from actors.context import Context, RunContext
from actors.engine import CannotStart, Engine, RunFailed, RunInput
from actors.engines.programs import ProgramConfig, Text, Word, cannot_start, exceeded, refuse
from actors.engines.session import PREPARE, Job, Session
from actors.processes import SpawnFailed
from protocol.edge import load
from protocol.specs import OnInterrupt, PauseMode

__all__ = ["Command", "Shell", "ShellConfig"]

Size = Annotated[int, Field(ge=1, le=1000)]


class ShellConfig(ProgramConfig):
    """`fail_on_exit`: whether an exit status other than 0 fails the run."""

    shell: Word = "/bin/bash"
    backend: Literal["pty"] = "pty"
    fail_on_exit: bool = True
    rows: Size = 24
    cols: Size = 80


class Command(BaseModel):
    """`stdin`: what the command reads; None is the end of file. `timeout_s`: its clock stands still while paused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    command: Text
    stdin: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=10**9)] | None = None


class Shell(Engine):
    """See the module."""

    kind = "shell"
    description = "One persistent shell session on a terminal; a run is a command."
    Config = ShellConfig
    Input: ClassVar[Any] = Text | Command
    pause_modes = (PauseMode.FREEZE, PauseMode.SOFT, PauseMode.INTERRUPT)
    pause_mode = PauseMode.FREEZE
    on_interrupt = OnInterrupt.FAIL
    refuses = True
    config: ShellConfig

    def __init__(self, config: ShellConfig) -> None:
        super().__init__(config)
        self._session: Session | None = None
        self._held = False

    @classmethod
    def refuse(cls, config: ShellConfig, children: ChildPolicy) -> None:
        refuse(config, children)

    async def on_start(self, ctx: Context) -> None:
        """CannotStart: there is no such directory, shell or secret, or the shell does not take commands."""
        if shutil.which(self.config.shell) is None:
            raise CannotStart(f"There is no shell {self.config.shell!r}, or it cannot be executed.")
        try:
            await self._begin(ctx)
        except SpawnFailed as error:
            raise cannot_start(error) from error
        except RunFailed as failed:
            raise CannotStart(failed.detail) from failed

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        """RunFailed: `exit-status`, `timeout` (both with the result kept), `cannot-start` for a new session."""
        wanted = Command(command=run.input) if isinstance(run.input, str) else load(Command, run.input)
        session = await self._idle_session(ctx)
        job, began = Job(ctx.output, masking=ctx.masking(), before=ctx.alive()), ctx.time()
        session.begin(job, wanted.command, wanted.stdin, ctx.trace)
        try:
            in_time = await _settled(ctx, job, wanted.timeout_s)
        finally:  # not `except Cancelled`: out of a nursery that comes in a group
            if not job.done.is_set():
                with trio.CancelScope(shield=True):
                    await self._end(ctx, session, job)
        if job.error is not None:
            raise job.error
        if job.status is None:  # hung up by `on_stop`: in a stopping engine this ends the run as what it is
            await ctx.pause_point()
        result = {
            "exit_code": job.status,
            "output": job.text,
            "output_bytes": job.output_bytes,
            "truncated": job.truncated,
            "duration_s": round(ctx.time() - began, 3),
        }
        if not in_time:
            raise RunFailed("timeout", f"The command did not end within {wanted.timeout_s} s.", result)
        if job.status and self.config.fail_on_exit:
            why = exceeded(job.status - 128, starved=ctx.starved)
            raise RunFailed("exit-status", f"The command ended with exit status {job.status}{why}.", result)
        return result

    async def on_pause(self, ctx: Context) -> None:
        self._held = True

    async def on_resume(self, ctx: Context) -> None:
        """What was given up while it was frozen comes to its end now: beside this, for the terminal is read again only
        when this has returned.
        """
        self._held = False
        session = self._session
        if session is not None and session.job is not None and session.job.killed:
            ctx.nursery.start_soon(_end, ctx, session, session.job)

    async def on_stop(self, ctx: Context) -> None:
        """The command in hand ends at once: its terminal hangs up."""
        if self._session is not None:
            self._session.close()

    async def _end(self, ctx: Context, session: Session, job: Job) -> None:
        """The command is not wanted any more. Held, the session may be frozen: its end is seen to at the resume."""
        if self._held:
            session.kill(job)
        else:
            await _end(ctx, session, job)

    async def _idle_session(self, ctx: Context) -> Session:
        session = self._session
        if session is not None and session.job is not None:  # given up while frozen; it comes to its end since then
            async with ctx.process_wait():
                await session.job.done.wait()
        if session is not None and session.usable:
            return session
        ctx.log("The shell had ended; this is a new session.", level="warning")
        try:
            return await self._begin(ctx)
        except (SpawnFailed, CannotStart) as error:
            raise RunFailed("cannot-start", str(error)) from error

    async def _begin(self, ctx: Context) -> Session:
        config = self.config
        env = await ctx.environment({"TERM": "xterm-256color", **config.env}, api=config.api)
        session = await Session.open(ctx, config.shell, env=env, size=(config.rows, config.cols), bounds=config.bounds)
        ctx.nursery.start_soon(session.attend, ctx)
        job = Job()
        session.begin(job, PREPARE)
        try:
            async with ctx.process_wait():
                await job.done.wait()
        finally:
            ready = job.status == 0 and job.begun.is_set()
            if not ready:
                session.close()
        if not ready:
            ended = f" and ended with status {job.status}" if job.status is not None else ""
            raise RunFailed("cannot-start", f"The shell {config.shell!r} does not take commands{ended}.")
        self._session = session
        return session


async def _end(ctx: Context, session: Session, job: Job) -> None:
    """End a command and all that it started, also what left its process group; jobs of earlier ones stay."""
    await session.end(job, partial(ctx.end_newer, job.before, session.shell))


async def _settled(ctx: RunContext, job: Job, timeout_s: float | None) -> bool:
    """Wait until the job is settled. False: the time was over first."""
    in_time = True
    async with trio.open_nursery(strict_exception_groups=True) as nursery:

        async def limit(seconds: float) -> None:
            nonlocal in_time
            await ctx.sleep(seconds)
            in_time = job.settled.is_set()
            nursery.cancel_scope.cancel()

        if timeout_s is not None:
            nursery.start_soon(limit, timeout_s)
        async with ctx.process_wait():
            await job.settled.wait()
        nursery.cancel_scope.cancel()
    return in_time
