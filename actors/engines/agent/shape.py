"""What a wire shape is: a request made of a conversation, and a reader that makes a reply of what is streamed back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.engines.agent.turns import Reply, Tool, ToolCall, Turn

__all__ = ["Asking", "Piece", "Reader", "Shape", "call"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One question, as far as its shape matters. `official`: it goes to the shape's own provider, at `Shape.home`."""

    model: str
    system: str
    turns: Sequence[Turn]
    tools: Sequence[Tool]
    max_output_tokens: int
    temperature: float | None = None
    effort: str | None = None
    official: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """Words as they come. `thought`: they are not for the reader of the answer."""

    text: str
    thought: bool = False


class Reader(Protocol):
    """One answer, event by event. It is whole when `reply` is not None."""

    reply: Reply | None

    def read(self, data: Mapping[str, Any]) -> Iterable[Piece]:
        """What an event adds. Raises KeyError, TypeError or ValueError for one that is none of this shape, ModelError for
        one that tells of an error. Kinds of events that are not known are passed over.
        """

    def ended(self) -> None:
        """The stream ended: a shape that has no last event of its own makes its reply now, if it is whole."""


class Shape(Protocol):
    """`home`: the address of its own provider; `path`: what is asked, below an address."""

    home: str
    path: str

    def headers(self, key: str) -> dict[str, str]:
        """What carries the key, if there is one, and the version that is spoken."""

    def body(self, asking: Asking) -> dict[str, Any]:
        """The request, as JSON."""

    def reader(self, secret: str) -> Reader:
        """For one answer. `secret`: is masked in what errors say."""


def call(id: str, name: str, arguments: str) -> ToolCall:
    """A call whose input came as text; no text is no input."""
    try:
        input = json.loads(arguments or "{}")
    except ValueError:
        input = None
    return ToolCall(id, name, input) if isinstance(input, dict) else ToolCall(id, name, {}, broken=arguments)
