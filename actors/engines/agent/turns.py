"""What is said to a model and by it, in words that no provider owns; each wire shape has a file that translates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

__all__ = ["Part", "Reply", "Stop", "Text", "Thought", "Tool", "ToolCall", "ToolResult", "Turn", "Usage"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words. Those that are empty or only space are not sent: the APIs refuse them."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model thought before it spoke. It is given back to the model as it came, or not at all.

    `signature`: the model's own proof of it, opaque to everybody else and worth something to that model alone; a thought
    without one is not sent back. `redacted`: only the model can read it; `text` is empty.
    """

    text: str
    signature: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`input`: a JSON object. `broken`: what the model said in place of one, cut short or not JSON; then `input` is
    empty, nothing may be done, and the result should say so.
    """

    id: str
    name: str
    input: Mapping[str, Any]
    broken: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to the call of this id, in the turn that follows it; every call needs one."""

    id: str
    text: str
    error: bool = False


Part = Text | Thought | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Turn:
    """`user`: texts and tool results; `agent`: texts, thoughts and tool calls."""

    role: Literal["user", "agent"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema`: JSON Schema of an object. `name`: letters, digits, `_` and `-`, up to 64."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """`input_tokens` counts those too that the provider had cached (`cached_tokens`)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Stop(StrEnum):
    """Why the model stopped: it is done, it called tools, it ran into `max_output_tokens`, it refused."""

    END = "end"
    TOOLS = "tools"
    LENGTH = "length"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Reply:
    turn: Turn
    stop: Stop
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.turn.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.turn.parts if isinstance(part, ToolCall))
