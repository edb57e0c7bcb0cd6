"""What the config of an `agent` engine says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from actors.engine import Config
from actors.engines.agent.budget import Budget
from actors.engines.agent.checkpoints import Checkpointing
from actors.engines.agent.model import ModelConfig
from actors.engines.programs import ProgramConfig, Text, Word
from actors.permissions import Rule, Verdict

__all__ = ["DEFAULT_RULES", "AgentConfig", "Block", "ToolName"]

ToolName = Literal["read", "search", "write", "edit", "shell", "ask", "plan"]

ALL: tuple[ToolName, ...] = ("read", "search", "write", "edit", "shell", "ask", "plan")

DEFAULT_RULES = (Rule(verdict=Verdict.ALLOW, tool="read"), Rule(verdict=Verdict.ALLOW, tool="search"))
"""What goes before the config's rules: looking is allowed, and for everything else people are asked."""


class AgentConfig(ProgramConfig):
    """`cwd` or `workspace` is what the agent works in, and the rest of `ProgramConfig` holds for its shell.

    `model`: which, and how it is asked. `system`: what it is told beside what every agent is told. `tools`: those that
    it has. `permissions`: what it may do unasked, or never. `plan`: people approve its plan before it acts. `budget`:
    what it may use. `context_tokens`: how much its model reads at once; at `compact_at` of it the conversation is told
    anew, in short. `checkpoints`: null for none. `shell`: the program.
    """

    model: ModelConfig
    system: Annotated[Text, Field(max_length=1 << 16)] = ""
    tools: tuple[ToolName, ...] = ALL
    permissions: Annotated[tuple[Rule, ...], Field(max_length=1000)] = ()
    plan: bool = False
    budget: Budget = Budget()
    context_tokens: Annotated[int, Field(ge=1000, le=10**8)] = 200_000
    compact_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    checkpoints: Checkpointing | None = Checkpointing()
    shell: Word = "/bin/bash"


class Block(Config):
    """A piece of a run's input."""

    type: Literal["text"]
    text: Text
