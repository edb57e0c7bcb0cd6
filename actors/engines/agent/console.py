"""The agent's shell: the session of the `shell` kind (`session.py`), opened with the first command that needs it."""

from __future__ import annotations

from functools import partial

import trio

from actors.context import Context, RunContext
from actors.engine import CannotStart
from actors.engines.agent.files import Refused
from actors.engines.job import Job
from actors.engines.programs import ProgramConfig
from actors.engines.session import PREPARE, Session
from actors.processes import SpawnFailed

__all__ = ["Console"]

SIZE = (24, 80)


class Console:
    """`ctx`: the incarnation's; the session lives as long."""

    def __init__(self, ctx: Context, config: ProgramConfig, shell: str) -> None:
        self._ctx, self._config, self._shell = ctx, config, shell
        self._session: Session | None = None
        self._held = False

    async def run(self, ctx: RunContext, command: str, *, timeout_s: float) -> Job:
        """The command at its end, or ended after `timeout_s` that are not paused (then its `status` is that of what
        ended it). Raises Refused when there is no shell. Cancelled: the command is brought to its end.
        """
        session = await self._idle()
        job = Job(partial(_alive, ctx), masking=ctx.masking(), before=ctx.alive())
        session.begin(job, command, trace=ctx.trace)
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(_limit, ctx, timeout_s, nursery.cancel_scope)
                async with ctx.process_wait():
                    await job.settled.wait()
                nursery.cancel_scope.cancel()
        finally:
            if not job.done.is_set():
                with trio.CancelScope(shield=True):
                    if self._held:  # and perhaps frozen: its end is seen to at the resume
                        session.kill(job)
                    else:
                        await self._end(session, job)
        return job

    def held(self) -> None:
        self._held = True

    def released(self) -> None:
        """What was given up while it was frozen comes to its end now."""
        self._held = False
        session = self._session
        if session is not None and session.job is not None and session.job.killed:
            self._ctx.nursery.start_soon(self._end, session, session.job)

    def close(self) -> None:
        """Hang up; the next command has a new session."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _end(self, session: Session, job: Job) -> None:
        """End a command and all that it started; jobs of earlier ones stay."""
        await session.end(job, partial(self._ctx.end_newer, job.before, session.shell))

    async def _idle(self) -> Session:
        session = self._session
        if session is not None and session.job is not None:  # given up while frozen
            async with self._ctx.process_wait():
                await session.job.done.wait()
        if session is not None and session.usable:
            return session
        self._session = await self._begin()
        return self._session

    async def _begin(self) -> Session:
        ctx, config = self._ctx, self._config
        try:
            env = await ctx.environment({"TERM": "dumb", "PAGER": "cat", **config.env}, api=config.api)
            session = await Session.open(ctx, self._shell, env=env, size=SIZE, bounds=config.bounds)
        except (SpawnFailed, CannotStart) as error:
            raise Refused(f"There is no shell: {error}") from error
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
            raise Refused(f"The shell {self._shell!r} does not take commands.")
        return session


async def _alive(ctx: RunContext, output: bytes) -> None:
    ctx.progress({"command_output_bytes": len(output)})


async def _limit(ctx: RunContext, seconds: float, scope: trio.CancelScope) -> None:
    await ctx.sleep(seconds)
    scope.cancel()
