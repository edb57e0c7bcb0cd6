"""Chat completions as OpenAI made them and many servers speak them, streamed.

Thoughts are read where a server sends them (`reasoning_content`, `reasoning`) and never sent back: the API has no place
for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from actors.engines.agent.faults import told
from actors.engines.agent.shape import Asking, Block, Blocks, Piece, used
from actors.engines.agent.turns import Reply, Stop, Text, ToolCall, ToolResult, Turn, Usage

__all__ = ["SHAPE", "OpenAIChat"]

STOPS: Final = {"stop": Stop.END, "tool_calls": Stop.TOOLS, "length": Stop.LENGTH, "content_filter": Stop.REFUSAL}


class OpenAIChat:
    """See `Shape`."""

    home = "https://api.openai.com/v1"
    path = "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, asking: Asking) -> dict[str, Any]:
        messages = [message for turn in asking.turns for message in _messages(turn)]
        if asking.system:
            messages.insert(0, {"role": "system", "content": asking.system})
        # Theirs takes the new name alone with newer models; other servers know the old one and pass over the new.
        limit = "max_completion_tokens" if asking.official else "max_tokens"
        body: dict[str, Any] = {
            "model": asking.model, limit: asking.max_output_tokens, "stream": True,
            "stream_options": {"include_usage": True}, "messages": messages,
        }  # fmt: skip
        if asking.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
                }
                for tool in asking.tools
            ]
        if asking.temperature is not None:
            body["temperature"] = asking.temperature
        if asking.effort is not None:
            body["reasoning_effort"] = asking.effort
        return body

    def reader(self, secret: str) -> Answer:
        return Answer(secret)


class Answer:
    """See `Reader`. It is whole when the stream has ended and a reason for it was given."""

    def __init__(self, secret: str) -> None:
        self.reply: Reply | None = None
        self._secret = secret
        self._blocks = Blocks()
        self._stop: Stop | None = None
        self._usage = Usage()

    def read(self, data: Mapping[str, Any]) -> Iterable[Piece]:
        if error := data.get("error"):
            error = error if isinstance(error, dict) else {"message": str(error)}
            raise told(str(error.get("code") or error.get("type") or ""), str(error.get("message", "")), self._secret)
        if usage := data.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            self._usage = used(usage["prompt_tokens"], usage["completion_tokens"], cached)
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            yield from self._said("thought", delta.get("reasoning_content") or delta.get("reasoning"))
            yield from self._said("text", delta.get("content"))
            if delta.get("refusal"):
                yield from self._said("text", delta["refusal"])
                self._stop = Stop.REFUSAL
            for call in delta.get("tool_calls") or ():
                self._called(call)
            if (reason := choice.get("finish_reason")) is not None and self._stop is None:
                self._stop = STOPS.get(reason, Stop.END)

    def ended(self) -> None:
        if self._stop is None:
            return
        parts = self._blocks.parts()
        if self._stop is Stop.END and any(isinstance(part, ToolCall) for part in parts):
            self._stop = Stop.TOOLS  # some servers say "stop" all the same
        self.reply = Reply(Turn("agent", parts), self._stop, self._usage)

    def _said(self, kind: Any, text: str | None) -> Iterable[Piece]:
        if not text:
            return
        if kind not in self._blocks:
            self._blocks[kind] = Block(kind)
        if piece := self._blocks.add(kind, text):
            yield piece

    def _called(self, call: Mapping[str, Any]) -> None:
        """The first delta of a call names it; what follows only grows its arguments."""
        index, function = call.get("index", 0), call.get("function") or {}
        if index not in self._blocks:
            self._blocks[index] = Block("call", call.get("id") or f"call_{index}", function["name"])
        self._blocks.add(index, function.get("arguments") or "")


def _messages(turn: Turn) -> Iterable[dict[str, Any]]:
    said = "".join(part.text for part in turn.parts if isinstance(part, Text))
    if turn.role == "user":
        for part in turn.parts:
            if isinstance(part, ToolResult):
                text = f"Error: {part.text}" if part.error else part.text
                yield {"role": "tool", "tool_call_id": part.id, "content": text}
        texts = [part.text for part in turn.parts if isinstance(part, Text) and part.text.strip()]
        if texts:
            yield {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}
        return
    calls = [_call(part) for part in turn.parts if isinstance(part, ToolCall)]
    if calls:
        yield {"role": "assistant", "content": said or None, "tool_calls": calls}
    elif said.strip():
        yield {"role": "assistant", "content": said}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.input), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


SHAPE: Final = OpenAIChat()
