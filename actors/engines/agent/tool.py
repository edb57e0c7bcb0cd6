"""What a tool is: a name, what it takes, and what a call of it means before it is done.

`prepare` looks and decides nothing: it answers with the `Call` that people and rules are asked about, exactly as it
would be carried out. `do` carries out that and nothing else, so what was approved is what happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints

from actors.context import RunContext
from actors.engine import Config
from actors.engines import conversing
from actors.engines.agent.compaction import shown
from actors.engines.agent.console import AgentConsole
from actors.engines.agent.files import Files
from actors.engines.permitting import Permissions
from actors.engines.programs import Bounds, Text
from actors.permissions import Act
from protocol.edge import schema

__all__ = ["OUTPUT_CHARS", "Call", "Input", "PathText", "Tool", "Workplace", "bounded"]

OUTPUT_CHARS = 40_000
"""How much of what a tool says goes to the model."""

PathText = Annotated[Text, StringConstraints(min_length=1, max_length=4096)]


class Input(Config):
    """What a model gives a tool; strict, as everything from outside."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where an agent works, for the run in hand."""

    ctx: RunContext
    files: Files
    console: AgentConsole
    permissions: Permissions
    bounds: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as it would be carried out. `title`: in a few words. `act`: what rules are asked about; None: nothing that
    needs to be allowed. `action`: the same for people, exactly and as JSON. `detail`: what else helps them decide.
    """

    title: str
    do: Callable[[], Awaitable[str]]
    act: Act | None = None
    action: Any = None
    detail: str = ""
    paths: tuple[str, ...] = ()
    diffs: Sequence[conversing.Diff] = field(default=())


class Tool:
    """`kind`: in the words of ACP (`read`, `edit`, `execute` ...); `acts`: it changes something, or may."""

    name: ClassVar[str]
    kind: ClassVar[str]
    description: ClassVar[str]
    acts: ClassVar[bool] = False
    Input: ClassVar[type[BaseModel]]

    async def prepare(self, at: Workplace, given: Any) -> Call:
        """`given`: an `Input`. Raises Refused."""
        raise NotImplementedError

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON Schema of the input, without what is of no use to a model."""
        found = schema(cls.Input)
        found.pop("title", None)
        found.pop("description", None)
        for member in found.get("properties", {}).values():
            member.pop("title", None)
        return found


def bounded(text: str) -> str:
    """As much of a tool's output as goes to the model, its middle left out and marked."""
    return shown(text, OUTPUT_CHARS)
