"""The OpenAI responses API, streamed. The conversation is ours: nothing is stored there (`store: false`), so a model's
thoughts come encrypted and are given back with the next question.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from actors.engines.agent.faults import told
from actors.engines.agent.shape import Asking, Block, Blocks, Piece, used
from actors.engines.agent.turns import Part, Reply, Stop, Text, Thought, ToolCall, ToolResult, Turn

__all__ = ["SHAPE", "OpenAIResponses"]

STOPS: Final = {"max_output_tokens": Stop.LENGTH, "content_filter": Stop.REFUSAL}


class OpenAIResponses:
    """See `Shape`."""

    home = "https://api.openai.com/v1"
    path = "/responses"

    def headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, asking: Asking) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": asking.model, "max_output_tokens": asking.max_output_tokens, "stream": True, "store": False,
            "input": [item for turn in asking.turns for item in _items(turn)],
        }  # fmt: skip
        if asking.system:
            body["instructions"] = asking.system
        if asking.tools:
            body["tools"] = [
                {
                    "type": "function", "name": tool.name, "description": tool.description,
                    "parameters": dict(tool.schema), "strict": False,
                }
                for tool in asking.tools
            ]  # fmt: skip
        if asking.temperature is not None:
            body["temperature"] = asking.temperature
        if asking.effort is not None:  # only models that think take these, and only those may be given an effort
            body["reasoning"] = {"effort": asking.effort, "summary": "auto"}
            body["include"] = ["reasoning.encrypted_content"]
        return body

    def reader(self, secret: str) -> Answer:
        return Answer(secret)


class Answer:
    """See `Reader`. An item that is done says once more, and for certain, what it is."""

    def __init__(self, secret: str) -> None:
        self.reply: Reply | None = None
        self._secret = secret
        self._blocks = Blocks()
        self._refused = False

    def read(self, data: Mapping[str, Any]) -> Iterable[Piece]:
        match data["type"]:
            case "response.output_item.added":
                self._blocks[data["output_index"]] = _begun(data["item"])
            case "response.output_text.delta" | "response.reasoning_summary_text.delta":
                yield from self._said(data["output_index"], data["delta"])
            case "response.reasoning_text.delta" | "response.function_call_arguments.delta":
                yield from self._said(data["output_index"], data["delta"])
            case "response.refusal.delta":
                self._refused = True
                yield from self._said(data["output_index"], data["delta"])
            case "response.output_item.done":
                self._done(data["output_index"], data["item"])
            case "response.completed" | "response.incomplete":
                self._ended(data["response"])
            case "response.failed":
                error = data["response"].get("error") or {}
                raise told(str(error.get("code", "")), str(error.get("message", "")), self._secret)
            case "error":
                error = data.get("error") or data
                kind = error.get("code") or error.get("type")
                raise told(str(kind), str(error.get("message", "")), self._secret)

    def ended(self) -> None:
        """An answer that is whole has said so."""

    def _said(self, index: int, text: str) -> Iterable[Piece]:
        if piece := self._blocks.add(index, text):
            yield piece

    def _done(self, index: int, item: Mapping[str, Any]) -> None:
        if index not in self._blocks:
            self._blocks[index] = _begun(item)
        block = self._blocks[index]
        if block.kind == "call":
            block.said.clear()
            self._blocks.add(index, item["arguments"])
        elif block.kind == "thought" and item.get("encrypted_content"):
            block.signature = ""
            self._blocks.sign(index, f"{item['id']} {item['encrypted_content']}")
        elif block.kind == "text" and not block.said:
            for part in item["content"]:
                self._blocks.add(index, part.get("text") or part.get("refusal") or "")

    def _ended(self, response: Mapping[str, Any]) -> None:
        parts = self._blocks.parts()
        why = (response.get("incomplete_details") or {}).get("reason")
        if why is not None:
            stop = STOPS.get(why, Stop.LENGTH)
        elif self._refused:
            stop = Stop.REFUSAL
        else:
            stop = Stop.TOOLS if any(isinstance(part, ToolCall) for part in parts) else Stop.END
        usage = response.get("usage") or {"input_tokens": 0, "output_tokens": 0}
        cached = (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0
        self.reply = Reply(Turn("agent", parts), stop, used(usage["input_tokens"], usage["output_tokens"], cached))


def _begun(item: Mapping[str, Any]) -> Block:
    match item["type"]:
        case "message":
            return Block("text")
        case "reasoning":
            return Block("thought")
        case "function_call":
            return Block("call", item["call_id"], item["name"])
    return Block("other")


def _items(turn: Turn) -> Iterable[dict[str, Any]]:
    if turn.role == "user":
        yield from (_result(part) for part in turn.parts if isinstance(part, ToolResult))
        texts = [part.text for part in turn.parts if isinstance(part, Text) and part.text.strip()]
        if texts:
            content = [{"type": "input_text", "text": text} for text in texts]
            yield {"type": "message", "role": "user", "content": content}
        return
    for part in turn.parts:
        if (item := _item(part)) is not None:
            yield item


def _item(part: Part) -> dict[str, Any] | None:
    """Something that the model said."""
    match part:
        case Text() if part.text.strip():
            return {"type": "message", "role": "assistant", "content": part.text}
        case Thought() if part.signature:
            name, _, encrypted = part.signature.partition(" ")
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return {"type": "reasoning", "id": name, "summary": summary, "encrypted_content": encrypted}
        case ToolCall():
            arguments = json.dumps(dict(part.input), ensure_ascii=False)
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
    return None


def _result(part: ToolResult) -> dict[str, Any]:
    text = f"Error: {part.text}" if part.error else part.text
    return {"type": "function_call_output", "call_id": part.id, "output": text}


SHAPE: Final = OpenAIResponses()
