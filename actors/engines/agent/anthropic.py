"""The Anthropic Messages API, version 2023-06-01, streamed.

What stays the same from question to question (tools, system, the conversation so far) is marked to be cached, which
makes a long conversation ten times cheaper and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from actors.engines.agent.faults import told
from actors.engines.agent.shape import Asking, Block, Blocks, Piece, used
from actors.engines.agent.turns import Part, Reply, Stop, Text, Thought, ToolCall, ToolResult, Turn, Usage

__all__ = ["SHAPE", "Anthropic"]

VERSION: Final = "2023-06-01"
CACHED: Final = {"type": "ephemeral"}
STOPS: Final = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "pause_turn": Stop.END,
    "tool_use": Stop.TOOLS,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
}


class Anthropic:
    """See `Shape`."""

    home = "https://api.anthropic.com"
    path = "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def body(self, asking: Asking) -> dict[str, Any]:
        messages = [message for turn in asking.turns if (message := _message(turn))["content"]]
        if messages and messages[-1]["role"] == "user":
            messages[-1]["content"][-1]["cache_control"] = CACHED
        body: dict[str, Any] = {
            "model": asking.model, "max_tokens": asking.max_output_tokens, "stream": True, "messages": messages
        }  # fmt: skip
        if asking.system.strip():
            body["system"] = [{"type": "text", "text": asking.system, "cache_control": CACHED}]
        if asking.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}
                for tool in asking.tools
            ]
            body["tools"][-1]["cache_control"] = CACHED
        if asking.effort is not None:
            body |= {"thinking": {"type": "adaptive"}, "output_config": {"effort": asking.effort}}
        return body

    def reader(self, secret: str) -> Answer:
        return Answer(secret)


class Answer:
    """See `Reader`."""

    def __init__(self, secret: str) -> None:
        self.reply: Reply | None = None
        self._secret = secret
        self._blocks = Blocks()
        self._stop = Stop.END
        self._counts: dict[str, int] = {}

    def read(self, data: Mapping[str, Any]) -> Iterable[Piece]:
        match data["type"]:
            case "message_start":
                self._count(data["message"].get("usage"))
            case "content_block_start":
                yield from self._begin(data["index"], data["content_block"])
            case "content_block_delta":
                yield from self._delta(data["index"], data["delta"])
            case "message_delta":
                self._count(data.get("usage"))
                if (reason := data["delta"].get("stop_reason")) is not None:
                    self._stop = STOPS.get(reason, Stop.END)
            case "message_stop":
                self.reply = Reply(Turn("agent", self._blocks.parts()), self._stop, self._usage())
            case "error":
                error = data["error"]
                raise told(str(error.get("type", "")), str(error.get("message", "")), self._secret)

    def ended(self) -> None:
        """An answer that is whole has said so."""

    def _begin(self, index: int, content: Mapping[str, Any]) -> Iterable[Piece]:
        match content["type"]:
            case "text":
                self._blocks[index] = Block("text")
                yield from self._said(index, content.get("text", ""))
            case "thinking":
                self._blocks[index] = Block("thought", signature=content.get("signature", ""))
                yield from self._said(index, content.get("thinking", ""))
            case "redacted_thinking":
                self._blocks[index] = Block("redacted", signature=content["data"])
            case "tool_use":
                self._blocks[index] = Block("call", content["id"], content["name"])
            case _:
                self._blocks[index] = Block("other")

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterable[Piece]:
        match delta["type"]:
            case "text_delta":
                yield from self._said(index, delta["text"])
            case "thinking_delta":
                yield from self._said(index, delta["thinking"])
            case "input_json_delta":
                yield from self._said(index, delta["partial_json"])
            case "signature_delta":
                self._blocks.sign(index, delta["signature"])

    def _said(self, index: int, text: str) -> Iterable[Piece]:
        if piece := self._blocks.add(index, text):
            yield piece

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Later counts replace earlier ones: they are totals."""
        self._counts |= {name: value for name, value in (usage or {}).items() if type(value) is int}

    def _usage(self) -> Usage:
        """Their `input_tokens` are those that no cache had."""
        counts = self._counts
        cached = counts.get("cache_read_input_tokens", 0)
        fresh = counts.get("input_tokens", 0) + counts.get("cache_creation_input_tokens", 0)
        return used(fresh + cached, counts.get("output_tokens", 0), cached)


def _message(turn: Turn) -> dict[str, Any]:
    content = [block for part in turn.parts if (block := _block(part)) is not None]
    # Results come first: "tool_result blocks must come immediately after" their calls.
    content.sort(key=lambda block: block["type"] != "tool_result")
    return {"role": "user" if turn.role == "user" else "assistant", "content": content}


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text() if part.text.strip():
            return {"type": "text", "text": part.text}
        case Thought(redacted=True):
            return {"type": "redacted_thinking", "data": part.signature}
        case Thought() if part.signature:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": dict(part.input)}
        case ToolResult():
            content = [{"type": "text", "text": part.text}] if part.text.strip() else []
            return {"type": "tool_result", "tool_use_id": part.id, "content": content, "is_error": part.error}
    return None


SHAPE: Final = Anthropic()
