"""What an engine that converses shows of itself, in one shape for every such kind, so that whoever draws one draws all.

    slice           holds
    conversation    the last turns, oldest first: list[Turn]
    tools           the last tool calls, oldest first: list[Tool]
    plan            list[Step]
    usage           Usage
    permissions     what people answered with "always", as rules (`actors/engines/permitting.py`)

A turn says what was said when it was whole; while it is being said it is seen as transient `message.delta` rows
(`Context.delta`). All of it is bounded, since a slice is held in memory and travels to every reader. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

__all__ = [
    "TEXT_BYTES",
    "Conversation",
    "Diff",
    "Part",
    "Step",
    "Tool",
    "ToolStatus",
    "Tools",
    "Turn",
    "Usage",
    "brief",
    "shortened",
]

TURNS, CONVERSATION_BYTES = 200, 256 << 10
TEXT_BYTES = 32 << 10
"""How long one text is in a slice and in an event; whole texts are in the run's output."""

TOOLS, TOOLS_BYTES = 100, 256 << 10
TOOL_BYTES, PATHS, DIFFS = 4 << 10, 20, 10
"""How much is shown of a call's input, its output and each text of a diff; how many paths and diffs."""

TITLE_BYTES = 1 << 10
LEVELS = 16
"""What is nested more deeply is shown as a text."""

ToolStatus = Literal["pending", "in_progress", "completed", "failed"]


class Part(TypedDict):
    """`tool`: a call, `tool_id` in the slice `tools`, stood here."""

    type: Literal["text", "thought", "tool"]
    text: NotRequired[str]
    tool_id: NotRequired[str]


class Turn(TypedDict):
    role: Literal["user", "agent"]
    run_id: str
    parts: list[Part]


class Step(TypedDict):
    content: str
    status: Literal["pending", "in_progress", "completed"]
    priority: NotRequired[str]


class Diff(TypedDict):
    """`old` is None where the file is new."""

    path: str
    old: str | None
    new: str


class Tool(TypedDict):
    """One tool call. `id` is its own within its run; `kind`: `read`, `edit`, `execute`, ...; `output`: a text."""

    id: str
    run_id: str
    name: str
    kind: str
    title: str
    status: ToolStatus
    paths: list[str]
    input: NotRequired[Any]
    output: NotRequired[str]
    diffs: NotRequired[list[Diff]]


class Usage(TypedDict):
    """Since the engine was spawned; the context is the present one, in tokens."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: NotRequired[int]
    cost_usd: NotRequired[float]
    context_used: NotRequired[int]
    context_size: NotRequired[int]


class Conversation:
    """The turns; begun again from what an earlier incarnation left in the slice."""

    def __init__(self, kept: list[Turn] | None = None) -> None:
        self._turns: list[Turn] = list(kept or ())

    @property
    def value(self) -> list[Turn]:
        """For the slice; never changed afterwards."""
        return list(self._turns)

    def say(self, role: Literal["user", "agent"], run_id: str, text: str, *, thought: bool = False) -> None:
        """Something whole was said."""
        self._add(role, run_id, {"type": "thought" if thought else "text", "text": shortened(text, TEXT_BYTES)})

    def use(self, run_id: str, tool_id: str) -> None:
        """The agent called a tool."""
        self._add("agent", run_id, {"type": "tool", "tool_id": tool_id})

    def _add(self, role: Literal["user", "agent"], run_id: str, part: Part) -> None:
        turns, last = self._turns, self._turns[-1] if self._turns else None
        if last is not None and (last["role"], last["run_id"]) == (role, run_id):
            turns[-1] = {"role": role, "run_id": run_id, "parts": [*last["parts"], part]}
        else:
            turns.append({"role": role, "run_id": run_id, "parts": [part]})
        del turns[: max(len(turns) - TURNS, 0)]
        excess = sum(map(_size, turns)) - CONVERSATION_BYTES
        while excess > 0 and len(turns) > 1:
            excess -= _size(turns.pop(0))
        if excess > 0:  # one turn alone: its beginning goes
            parts = list(turns[0]["parts"])
            while excess > 0 and len(parts) > 1:
                excess -= _part_size(parts.pop(0))
            turns[0] = {"role": role, "run_id": run_id, "parts": parts}


class Tools:
    """The tool calls, in the order in which they began; begun again from the slice, like the conversation."""

    def __init__(self, kept: Iterable[Tool] | None = None) -> None:
        self._tools: dict[tuple[str, str], Tool] = {(tool["run_id"], tool["id"]): tool for tool in kept or ()}
        self._sizes = {key: _json_size(tool) for key, tool in self._tools.items()}

    @property
    def value(self) -> list[Tool]:
        """For the slice; never changed afterwards."""
        return list(self._tools.values())

    def get(self, run_id: str, id: str) -> Tool | None:
        return self._tools.get((run_id, id))

    def change(self, run_id: str, id: str, members: Mapping[str, Any]) -> Tool:
        """What is now known of a call, over what was: members of `Tool`, any of them. A new one goes last."""
        known = self._tools.get((run_id, id)) or {
            "id": id, "run_id": run_id, "name": "", "kind": "other", "title": "", "status": "pending", "paths": [],
        }  # fmt: skip
        tool = cast("Tool", {**known, **members})
        tool["title"] = shortened(tool["title"], TITLE_BYTES)
        tool["paths"] = [shortened(path, TITLE_BYTES) for path in tool["paths"][:PATHS]]
        if "input" in members:
            tool["input"] = brief(members["input"], TOOL_BYTES)
        if "output" in members:
            tool["output"] = shortened(members["output"], TOOL_BYTES)
        if "diffs" in members:
            tool["diffs"] = [
                {
                    "path": shortened(diff["path"], TITLE_BYTES),
                    "old": None if diff["old"] is None else shortened(diff["old"], TOOL_BYTES),
                    "new": shortened(diff["new"], TOOL_BYTES),
                }
                for diff in members["diffs"][:DIFFS]
            ]
        self._tools[run_id, id] = tool
        self._sizes[run_id, id] = _json_size(tool)
        while len(self._tools) > TOOLS or (sum(self._sizes.values()) > TOOLS_BYTES and len(self._tools) > 1):
            oldest = next(iter(self._tools))
            del self._tools[oldest], self._sizes[oldest]
        return tool

    def end(self, run_id: str) -> list[Tool]:
        """The turn is over, so whatever did not end has failed: those that this changes."""
        return [
            self.change(run_id, tool["id"], {"status": "failed"})
            for tool in self.value
            if tool["run_id"] == run_id and tool["status"] in ("pending", "in_progress")
        ]


def shortened(text: str, most_bytes: int) -> str:
    """The beginning of a text that is longer, and how much is missing."""
    if len(text) <= most_bytes // 4:
        return text
    data = text.encode(errors="replace")
    if len(data) <= most_bytes:
        return text
    return f"{data[:most_bytes].decode(errors='ignore')}… ({len(data) - most_bytes} bytes more)"


def brief(value: Any, most_bytes: int) -> Any:
    """A JSON value that is small; of a larger one its members, each as a text that is cut."""
    if _json_size(value) <= most_bytes and not _deeper(value, LEVELS):
        return value
    if isinstance(value, dict) and len(value) <= 16:
        share = most_bytes // len(value)
        return {shortened(name, 64): _brief_member(member, share) for name, member in value.items()}
    return shortened(str(value), most_bytes)


def _brief_member(value: Any, most_bytes: int) -> Any:
    small = _json_size(value) <= most_bytes and not _deeper(value, LEVELS - 1)
    return value if small else shortened(str(value), most_bytes)


def _deeper(value: Any, levels: int) -> bool:
    """Whether it is nested more deeply than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(member, levels - 1) for member in inner)


def _json_size(value: Any) -> int:
    """About how many bytes it has as JSON."""
    match value:
        case str():
            return len(value.encode(errors="replace")) + 2
        case dict():
            return 2 + sum(len(name) + 4 + _json_size(member) for name, member in value.items())
        case list():
            return 2 + sum(1 + _json_size(member) for member in value)
        case _:
            return len(str(value))


def _part_size(part: Part) -> int:
    return 40 + len(part.get("text", "").encode(errors="replace")) + len(part.get("tool_id", ""))


def _size(turn: Turn) -> int:
    return 80 + sum(map(_part_size, turn["parts"]))
