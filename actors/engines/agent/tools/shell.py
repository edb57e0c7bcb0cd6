"""`shell`: a command in the agent's session."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from actors.engines.agent.files import Refused
from actors.engines.agent.tool import Call, Input, Tool, Workplace, bounded
from actors.engines.programs import Text
from actors.permissions import Act

__all__ = ["Shell"]

COMMAND_S = 120.0
MOST_S = 3600.0


class ShellInput(Input):
    command: Annotated[Text, Field(min_length=1, max_length=32_000)]
    timeout_s: Annotated[float, Field(gt=0, le=MOST_S, description="after this it is ended")] = COMMAND_S


class Shell(Tool):
    name, kind, acts = "shell", "execute", True
    description = (
        "Run a command in the workspace's shell session: directory, variables and background jobs stay for the next "
        "one. Nobody can type: a program that asks gets the end of file. Of a long output the end is shown."
    )
    Input = ShellInput

    async def prepare(self, at: Workplace, given: ShellInput) -> Call:
        return Call(
            title=given.command.strip().partition("\n")[0][:200],
            do=partial(_run, at, given),
            act=Act(tool=self.name, kind=self.kind, command=given.command),
            action={"tool": self.name, "command": given.command, "timeout_s": given.timeout_s},
        )


async def _run(at: Workplace, given: ShellInput) -> str:
    began = at.ctx.time()
    job = await at.console.run(at.ctx, given.command, timeout_s=given.timeout_s)
    output = bounded(job.text)
    if job.truncated:
        output = f"[of {job.output_bytes} bytes the end]\n{output}"
    if at.ctx.time() - began >= given.timeout_s:
        raise Refused(f"{output}\nIt did not end within {given.timeout_s:g} s and was ended.".lstrip())
    if job.status is None:
        raise Refused(f"{output}\nThe session was ended.".lstrip())
    if job.status:
        raise Refused(f"{output}\nIt ended with exit status {job.status}.".lstrip())
    return output or "It ended well and said nothing."
