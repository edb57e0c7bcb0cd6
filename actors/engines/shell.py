"""The shell kind: one session, and every run is a command in it. How that works is told in `session.py`, and for a
session on tmux in `tmux/session.py`.

What a command leaves in the session stays: directory, variables, functions, background jobs. What these write during a
run is part of its output; between runs it is dropped. A command that is cancelled, or whose time is over, leaves no
process. A session ends when its shell does (`exit 3`, a crash): the run in hand ends with that status, and the next run
begins a new session.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import trio
from pydantic import BaseModel, ConfigDict, Field

from actors.children import ChildPolicy
from actors.context import Context, RunContext
from actors.engine import ANEW, CannotAdopt, CannotStart, Engine, RunFailed, RunInput
from actors.engines.console import Console
from actors.engines.job import Job
from actors.engines.programs import ProgramConfig, Text, Word, cannot_start, exceeded, refuse
from actors.engines.session import Session
from actors.engines.tmux import TmuxSession, found, lacking
from actors.processes import SpawnFailed
from protocol.edge import load
from protocol.errors import ValidationFailed
from protocol.specs import OnInterrupt, PauseMode

__all__ = ["Command", "Shell", "ShellConfig"]

BUBBLEWRAPPED = (
    "whoever attaches starts programs through the tmux server, which would have to be in there too, with its socket and"
    " process ids that nobody outside could tell; use landlock, or the backend pty"
)

AnySession = Session | TmuxSession
Size = Annotated[int, Field(ge=1, le=1000)]


class ShellConfig(ProgramConfig):
    """`backend`: a terminal of the engine's alone, or one in tmux, which people can attach to and which outlives the
    daemon. `fail_on_exit`: whether an exit status other than 0 fails the run.
    """

    shell: Word = "/bin/bash"
    backend: Annotated[
        Literal["pty", "tmux"],
        Field(description="pty: a terminal of its own; tmux: one that people attach to, and that outlives the daemon"),
    ] = "pty"
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
    interrupted = "Its command was ended, or is before anything else runs in its session."
    refuses = True
    config: ShellConfig

    def __init__(self, config: ShellConfig) -> None:
        super().__init__(config)
        self._console: Console[AnySession] | None = None

    @classmethod
    def refuse(cls, config: ShellConfig, children: ChildPolicy) -> None:
        if config.backend == "tmux":
            if problem := lacking(children.lasting):
                raise _refused("backend", problem)
            if config.sandbox is not None and config.sandbox.by == "bubblewrap":
                raise _refused("sandbox", f"by bubblewrap is not possible with tmux: {BUBBLEWRAPPED}")
        refuse(config, children)

    @classmethod
    def lasts(cls, config: ShellConfig) -> bool:
        return config.backend == "tmux"

    @classmethod
    def resumes(cls, config: ShellConfig) -> bool:
        return config.backend == "tmux"

    async def on_start(self, ctx: Context) -> None:
        """CannotStart: there is no such directory, shell or secret, or the shell does not take commands. CannotAdopt:
        the same of a session that lives on.
        """
        on_tmux = self.config.backend == "tmux"
        opened: Callable[[], Awaitable[AnySession]] = partial(self._open_tmux if on_tmux else self._open, ctx)
        self._console = console = Console(ctx, opened, self.config.shell)
        try:
            if not on_tmux or not await self._adopt(ctx, console):
                self._look_for_shell()
                await console.begin()
        except SpawnFailed as error:
            raise cannot_start(error) from error
        except RunFailed as failed:
            raise CannotStart(failed.detail) from failed

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        """RunFailed: `exit-status`, `timeout` (both with the result kept), `cannot-start` for a new session."""
        wanted = Command(command=run.input) if isinstance(run.input, str) else load(Command, run.input)
        assert self._console is not None
        job, began = await self._job(ctx, self._console, run, wanted), ctx.time()
        in_time = await self._console.settled(job, wanted.timeout_s)
        if job.error is not None:
            raise job.error
        if job.status is None:  # hung up by `on_stop`, or gone with its server: the end of the incarnation ends the run
            if not ctx.stopping:
                await trio.sleep_forever()
            await ctx.pause_point()
        result = {
            "exit_code": job.status,
            "output": job.text,
            "output_bytes": job.output_bytes,
            "truncated": job.truncated,
            "duration_s": round(ctx.time() - began, 3),
        }
        if job.gap:
            result["gap"] = True
        if not in_time:
            raise RunFailed("timeout", f"The command did not end within {wanted.timeout_s} s.", result)
        if job.status and self.config.fail_on_exit:
            why = exceeded(job.status - 128, starved=ctx.starved)
            raise RunFailed("exit-status", f"The command ended with exit status {job.status}{why}.", result)
        return result

    async def on_pause(self, ctx: Context) -> None:
        if self._console is not None:
            self._console.held()

    async def on_resume(self, ctx: Context) -> None:
        if self._console is not None:
            self._console.released()

    async def on_stop(self, ctx: Context) -> None:
        """The command in hand ends at once, for its terminal hangs up; one in tmux goes on if the tree is left to the
        next house.
        """
        if self._console is not None:
            self._console.close()
        if self.config.backend == "tmux" and not ctx.leaving:
            ctx.update("terminal", None)

    async def _job(self, ctx: RunContext, console: Console[AnySession], run: RunInput, wanted: Command) -> Job:
        """The command of this run, begun, or found in the session."""
        session = console.session
        if run.resumed and isinstance(session, TmuxSession) and session.stray and session.stray.run_id == run.id:
            stray, session.stray = session.stray, None
            if stray.job is not None:
                await stray.job.join(ctx.output)
                return stray.job
        elif run.resumed:
            gone = "It was interrupted, and the session in which its command ran is gone: what came of it is not known."
            raise RunFailed("interrupted", f"{gone} {ANEW}")
        if isinstance(session, TmuxSession) and session.stray is not None:
            await self._end_stray(ctx, session)
        try:
            session = await console.idle()
        except (SpawnFailed, CannotStart) as error:
            raise RunFailed("cannot-start", str(error)) from error
        job = Job(ctx.output, masking=ctx.masking())
        if isinstance(session, Session):
            session.begin(job, wanted.command, wanted.stdin, ctx.trace)
        else:
            session.begin(job, wanted.command, wanted.stdin, ctx.trace, run_id=run.id)
        return job

    async def _open(self, ctx: Context) -> Session:
        config = self.config
        env = await ctx.environment({"TERM": "xterm-256color", **config.env}, api=config.api)
        return await Session.open(ctx, config.shell, env=env, size=(config.rows, config.cols), bounds=config.bounds)

    async def _open_tmux(self, ctx: Context) -> TmuxSession:
        config = self.config
        before = self._console.session if self._console is not None else None
        assert not isinstance(before, Session)
        program = found(before.program if before is not None else "")
        if program is None:
            raise CannotStart("There is no program tmux in PATH; install it, or use the backend pty.")
        if before is not None:
            before.close()
        env = await ctx.environment(config.env, api=config.api)
        term = config.env.get("TERM")
        session = await TmuxSession.open(
            ctx, program, config.shell, env=env, term=term if isinstance(term, str) else None,
            size=(config.rows, config.cols), bounds=config.bounds, after=before,
        )  # fmt: skip
        session.set_next(await self._own(ctx, env))  # of a server that was there already they are the older ones
        ctx.update("terminal", session.terminal() | {"rows": config.rows, "cols": config.cols})
        return session

    def _look_for_shell(self) -> None:
        if shutil.which(self.config.shell) is None:
            raise CannotStart(f"There is no shell {self.config.shell!r}, or it cannot be executed.")

    async def _adopt(self, ctx: Context, console: Console[AnySession]) -> bool:
        """Whether the session that the last house left goes on. Raises CannotAdopt for what somebody can mend."""
        config = self.config
        try:
            if not await ctx.adopt():
                await ctx.discard()
                return False
            self._look_for_shell()
            env = await ctx.environment(config.env, api=config.api)  # and so their secrets are hidden in what it says
            session = await TmuxSession.adopt(ctx, config.shell, bounds=config.bounds)
        except CannotAdopt:
            raise
        except (CannotStart, SpawnFailed, OSError) as error:
            raise CannotAdopt(f"{str(error).rstrip('.')}; its session lives on: mend that and start it.") from error
        if session is None:
            return False
        session.set_next(await self._own(ctx, env))
        console.take(session)
        await session.ready()
        if ctx.on_interrupt is not OnInterrupt.RESUME:
            await self._end_stray(ctx, session)
        ctx.log("The session that the last house left goes on.")
        ctx.update("terminal", session.terminal() | {"rows": config.rows, "cols": config.cols})
        return True

    async def _end_stray(self, ctx: Context, session: TmuxSession) -> None:
        """Nothing is to run on top of what an interrupted run has left."""
        stray, session.stray = session.stray, None
        if stray is not None and stray.job is not None and not stray.job.done.is_set():
            await session.end(stray.job)
            ctx.log(f"The command of the interrupted run {stray.run_id} still went on in the session; it was ended.")

    async def _own(self, ctx: Context, env: dict[str, str]) -> dict[str, str]:
        """What the engine gets beside what the house passes on."""
        passed = await ctx.environment()
        return {name: value for name, value in env.items() if passed.get(name) != value and name != "TERM"}


def _refused(where: str, problem: str) -> ValidationFailed:
    fault = {"loc": ["config", where], "msg": problem, "type": "not_allowed_here"}
    return ValidationFailed(f"config.{where}: {problem}.", errors=[fault])
