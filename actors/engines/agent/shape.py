"""What a wire shape is: a request made of a conversation, and a reader that makes a reply of what is streamed back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from actors.engines.agent.faults import Garbled
from actors.engines.agent.turns import Part, Reply, Text, Thought, Tool, ToolCall, Turn, Usage
from protocol.events import encode

__all__ = ["CONTENT_CHARS", "Asking", "Block", "Blocks", "Piece", "Reader", "Shape", "sound", "used"]

CONTENT_CHARS: Final = 8 << 20
"""The most that one answer may say; a model that does not stop is cut off there."""

NAME_CHARS: Final = 4096
"""How long the id or the name of a call may be."""

MOST_TOKENS: Final = 10**12


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
        """What an event adds. Events of a kind that is not known are passed over.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none of this shape.
            ModelError: it tells of an error.

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


@dataclass(slots=True)
class Block:
    """One piece of an answer, as it grows. `other`: something that is not ours to understand."""

    kind: Literal["text", "thought", "call", "redacted", "other"]
    id: str = ""
    name: str = ""
    said: list[str] = field(default_factory=list)
    signature: str = ""

    @property
    def text(self) -> str:
        return sound("".join(self.said))

    def part(self) -> Part | None:
        match self.kind:
            case "text" if self.said:
                return Text(self.text)
            case "thought" if self.said or self.signature:
                return Thought(self.text, self.signature)
            case "redacted":
                return Thought("", self.signature, redacted=True)
            case "call":
                return _call(self.id, self.name, self.text)
        return None


class Blocks:
    """The blocks of one answer by whatever its shape numbers them with, in the order in which they began."""

    def __init__(self) -> None:
        self._blocks: dict[object, Block] = {}
        self._chars = 0

    def __contains__(self, key: object) -> bool:
        return key in self._blocks

    def __getitem__(self, key: object) -> Block:
        return self._blocks[key]

    def __setitem__(self, key: object, block: Block) -> None:
        """Begin one. Raises TypeError or ValueError when its words are none, Garbled as `add`."""
        block.id, block.name = _word(block.id), _word(block.name)
        self._grown(64)  # so that a million empty ones end too
        signature, block.signature = block.signature, ""
        self._blocks[key] = block
        self.sign(key, signature)

    def sign(self, key: object, signature: str) -> None:
        """Let its signature grow. Raises TypeError for what is no text, Garbled as `add`."""
        block = self._blocks[key]
        self._grown(len(signature))
        block.signature = block.signature + sound(signature)

    def add(self, key: object, text: str) -> Piece | None:
        """Let the block grow. What people can read of it is given back. Raises Garbled past `CONTENT_CHARS`."""
        block = self._blocks[key]
        self._grown(len(text))
        block.said.append(text)
        if block.kind not in ("text", "thought") or not text:
            return None
        return Piece(sound(text), block.kind == "thought")

    def parts(self) -> tuple[Part, ...]:
        return tuple(part for block in self._blocks.values() if (part := block.part()) is not None)

    def _grown(self, chars: int) -> None:
        self._chars += chars
        if self._chars > CONTENT_CHARS:
            raise Garbled(f"The model's answer has more than {CONTENT_CHARS} characters and was cut off.")


def sound(text: str) -> str:
    """Text that can be encoded: halves of characters that belong together are joined, others replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def used(given: object, got: object, cached: object) -> Usage:
    """What an answer says that it used. Raises ValueError for what are no numbers of tokens."""
    for count in (given, got, cached):
        if type(count) is not int or not 0 <= count <= MOST_TOKENS:
            raise ValueError(f"{str(count)[:40]!r} is no number of tokens")
    assert isinstance(given, int)
    assert isinstance(got, int)
    assert isinstance(cached, int)
    return Usage(given, got, min(cached, given))


def _word(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is no text")
    if len(text) > NAME_CHARS:
        raise ValueError(f"{text[:40]!r}... has more than {NAME_CHARS} characters")
    return sound(text)


def _call(id: str, name: str, arguments: str) -> ToolCall:
    """A call whose input came as text; no text is no input."""
    try:
        given = json.loads(arguments or "{}", parse_constant=_refuse)
        encode(given)
    except (ValueError, RecursionError):
        given = None
    return ToolCall(id, name, given) if isinstance(given, dict) else ToolCall(id, name, {}, broken=arguments)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
