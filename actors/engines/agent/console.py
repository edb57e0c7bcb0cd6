"""The agent's shell: the session of the `shell` kind (`session.py`), opened with the first command that needs it."""

from __future__ import annotations

from functools import partial

from actors.context import Context, RunContext
from actors.engine import CannotStart, RunFailed
from actors.engines.agent.files import Refused
from actors.engines.console import Console
from actors.engines.job import Job
from actors.engines.programs import ProgramConfig
from actors.engines.session import Session
from actors.processes import SpawnFailed

__all__ = ["AgentConsole"]

SIZE = (24, 80)


class AgentConsole(Console[Session]):
    """`ctx`: the incarnation's; the session lives as long."""

    def __init__(self, ctx: Context, config: ProgramConfig, shell: str) -> None:
        super().__init__(ctx, partial(_opened, ctx, config, shell), shell)

    async def run(self, ctx: RunContext, command: str, *, timeout_s: float) -> Job:
        """The command at its end, or ended after `timeout_s` that are not paused (then its `status` is that of what
        ended it). Raises Refused when there is no shell. Cancelled: the command is brought to its end.
        """
        try:
            session = await self.idle()
        except (SpawnFailed, CannotStart, RunFailed) as error:
            raise Refused(f"There is no shell: {error}") from error
        job = Job(partial(_alive, ctx), masking=ctx.masking())
        session.begin(job, command, trace=ctx.trace)
        await self.settled(job, timeout_s)
        return job


async def _opened(ctx: Context, config: ProgramConfig, shell: str) -> Session:
    env = await ctx.environment({"TERM": "dumb", "PAGER": "cat", **config.env}, api=config.api)
    return await Session.open(ctx, shell, env=env, size=SIZE, bounds=config.bounds)


async def _alive(ctx: RunContext, output: bytes) -> None:
    ctx.progress({"command_output_bytes": len(output)})
