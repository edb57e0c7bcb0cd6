"""What the tests' model says, in words of its own; each wire shape has a file that says it in that shape's.

    endpoint.reply(Say(Call("read", {"path": "a.md"})), Say("It is a recipe."), when="what is a.md")
    endpoint.reply(Fail(529, retry_after="2"), Say("Now I can."))

A rule answers the requests that it is for, one reply after the other; a request that no rule is for, or whose rule has
nothing left to say, gets the default answer. Of several rules the one with a predicate wins that says yes, then the one
whose marker stands in the latest user message that has any, then the first without a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import trio

__all__ = [
    "Asked", "Block", "Call", "Condition", "Cut", "Endless", "Fail", "Fault", "Hold", "Outcome", "Part", "Raw", "Reply",
    "Rule", "Say", "Script", "Shape", "Text", "Thought", "Tokens", "blocks", "pieces",
]  # fmt: skip

Shape = Literal["anthropic", "openai-chat", "openai-responses"]
Outcome = Literal["open", "answered", "cut", "gone"]
Stop = Literal["end", "tools", "length", "refusal"]


@dataclass(frozen=True, slots=True)
class Text:
    """Said in pieces of a word each; texts that follow one another are one block."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str
    signature: str = "c2lnbmVk"


@dataclass(frozen=True, slots=True)
class Call:
    """`input`: an object; a text is the input of a free-form tool (`custom`, of the responses shape)."""

    name: str
    input: dict[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing more is sent until the test opens the gate of this name."""

    gate: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed here, in the middle of whatever it is."""


@dataclass(frozen=True, slots=True)
class Endless:
    """Text without an end; only the client can end it."""

    text: str = "and so on "


@dataclass(frozen=True, slots=True)
class Fault:
    """An error after the stream began, as the shape tells it."""

    type: str = "overloaded_error"
    message: str = "Overloaded"


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes as they are, in the body."""

    data: bytes


Part = Text | Thought | Call | Hold | Cut | Endless | Fault | Raw


@dataclass(frozen=True, slots=True)
class Tokens:
    """`input` counts those that were cached too."""

    input: int
    output: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Say:
    """An answer. A string is a text. `stop`: by default what the parts mean; `torn`: bytes for each write."""

    parts: tuple[Part, ...]
    stop: Stop
    tokens: Tokens | None
    torn: int | None

    def __init__(
        self, *parts: Part | str, stop: Stop | None = None, tokens: Tokens | None = None, torn: int | None = None
    ) -> None:
        made = tuple(Text(part) if isinstance(part, str) else part for part in parts)
        calls = any(isinstance(part, Call) for part in made)
        object.__setattr__(self, "parts", made)
        object.__setattr__(self, "stop", stop or ("tools" if calls else "end"))
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "torn", torn)


@dataclass(frozen=True, slots=True)
class Fail:
    """An error instead of an answer. `body`: these bytes in place of the shape's own error."""

    status: int
    message: str = "The test says no."
    retry_after: str | None = None
    type: str | None = None
    body: bytes | None = None


Reply = Say | Fail


@dataclass(slots=True)
class Asked:
    """One request for an answer. `ended`: set when the answer was sent, was cut, or nobody was there to read it."""

    shape: Shape
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    texts: list[str]
    """What the user messages say, in order; tool results are no words of the user's."""

    ended: trio.Event = field(default_factory=trio.Event, repr=False)
    outcome: Outcome = "open"

    @property
    def text(self) -> str:
        return self.texts[-1] if self.texts else ""

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def tools(self) -> list[str]:
        """The names of the tools that may be called."""
        named = [tool.get("function", tool) for tool in self.body.get("tools") or []]
        return [str(tool.get("name", tool.get("type", ""))) for tool in named]


Condition = str | Callable[[Asked], bool] | None


@dataclass(slots=True)
class Rule:
    """`tools`: only for requests that have some (True) or none (False): titles and summaries are asked for without."""

    replies: list[Reply]
    when: Condition = None
    tools: bool | None = None
    repeat: bool = False

    def suits(self, asked: Asked) -> int | None:
        """How well, the higher the better; None: not at all."""
        if not self.replies or (self.tools is not None and self.tools != bool(asked.tools)):
            return None
        if self.when is None:
            return 0
        if isinstance(self.when, str):
            marked = [number for number, text in enumerate(asked.texts, 1) if self.when in text]
            return marked[-1] if marked else None
        return 1 << 30 if self.when(asked) else None

    def next(self) -> Reply:
        """The last one stays when the rule repeats."""
        return self.replies[0] if self.repeat and len(self.replies) == 1 else self.replies.pop(0)


class Script:
    """The rules, in the order in which they were given."""

    def __init__(self, default: Reply) -> None:
        self.default = default
        self.rules: list[Rule] = []

    def reply(self, asked: Asked) -> Reply:
        suited = [(rule.suits(asked), rule) for rule in self.rules]
        able = [(suits, rule) for suits, rule in suited if suits is not None]
        return max(able, key=lambda pair: pair[0])[1].next() if able else self.default


@dataclass(slots=True)
class Block:
    """What the model says in one piece of content, and where in it something else happens."""

    kind: Literal["text", "thought", "call"]
    parts: list[Part] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text | Thought))

    @property
    def call(self) -> Call:
        return next(part for part in self.parts if isinstance(part, Call))

    @property
    def signature(self) -> str:
        return next(part.signature for part in reversed(self.parts) if isinstance(part, Thought))


_KINDS: dict[type[Part], Literal["text", "thought", "call"]] = {
    Text: "text", Endless: "text", Thought: "thought", Call: "call"
}  # fmt: skip


def blocks(say: Say) -> Iterator[Block | Part]:
    """The blocks in order; a part that belongs to none (before the first, or a fault) stands for itself."""
    begun: Block | None = None
    for part in say.parts:
        kind = _KINDS.get(type(part))
        if kind is None and (begun is None or begun.kind == "call"):
            if begun is not None:
                yield begun
                begun = None
            yield part
        elif kind is None or (begun is not None and kind == begun.kind and kind != "call"):
            assert begun is not None
            begun.parts.append(part)
        else:
            if begun is not None:
                yield begun
            begun = Block(kind, [part])
    if begun is not None:
        yield begun


def pieces(text: str) -> list[str]:
    """As a model says it: a word at a time. Together they are the text."""
    return [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))] if text else []
