"""The OpenAI shape of chat completions: `POST /v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from typing import Any

from tests.models.script import (
    Asked,
    Block,
    Call,
    Cut,
    Endless,
    Fail,
    Fault,
    Hold,
    Part,
    Raw,
    Say,
    Text,
    Thought,
    Tokens,
    blocks,
    pieces,
)

__all__ = ["body", "error", "stream", "texts"]

STOPS = {"end": "stop", "tools": "tool_calls", "length": "length", "refusal": "content_filter"}
TYPES = {401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
CREATED = 1_760_000_000


def texts(sent: dict[str, Any]) -> list[str]:
    """What the user messages of the request say."""
    said = []
    for message in sent.get("messages") or []:
        content = message.get("content")
        parts = [content] if isinstance(content, str) else [part.get("text") for part in content or []]
        if message.get("role") == "user" and any(parts):
            said.append("\n".join(part for part in parts if part))
    return said


def error(fail: Fail) -> dict[str, Any]:
    kind = fail.type or TYPES.get(fail.status, "invalid_request_error")
    return {"error": {"message": fail.message, "type": kind, "param": None, "code": None}}


def body(say: Say, asked: Asked, number: int, tokens: Tokens) -> dict[str, Any]:
    """The whole answer at once."""
    made = [block for block in blocks(say) if isinstance(block, Block)]
    message: dict[str, Any] = {"role": "assistant", "content": _joined(made, "text"), "refusal": None}
    if thought := _joined(made, "thought"):
        message["reasoning_content"] = thought
    if calls := [_call(block.call, number, at) for at, block in enumerate(made) if block.kind == "call"]:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": STOPS[say.stop]}
    return {**_envelope("chat.completion", asked, number), "choices": [choice], "usage": _usage(tokens)}


def stream(say: Say, asked: Asked, number: int, tokens: Tokens) -> Iterator[bytes | Hold | Cut]:
    """The answer as server-sent events."""
    chunk = _envelope("chat.completion.chunk", asked, number)
    yield _chunk(chunk, {"role": "assistant", "content": "", "refusal": None})
    calls = 0
    for at, item in enumerate(blocks(say)):
        if not isinstance(item, Block):
            yield from _other(item)
        elif item.kind == "call":
            yield from _called(chunk, item, number, at, calls)
            calls += 1
        else:
            yield from _said(chunk, item)
    yield _chunk(chunk, {}, finish_reason=STOPS[say.stop])
    if (asked.body.get("stream_options") or {}).get("include_usage"):
        yield _data({**chunk, "choices": [], "usage": _usage(tokens)})
    yield b"data: [DONE]\n\n"


def _said(chunk: dict[str, Any], block: Block) -> Iterator[bytes | Hold | Cut]:
    for part in block.parts:
        if isinstance(part, Text | Thought):
            name = "content" if isinstance(part, Text) else "reasoning_content"
            for piece in pieces(part.text):
                yield _chunk(chunk, {name: piece})
        elif isinstance(part, Endless):
            yield from repeat(_chunk(chunk, {"content": part.text}))
        else:
            yield from _other(part)


def _called(chunk: dict[str, Any], block: Block, number: int, at: int, index: int) -> Iterator[bytes | Hold | Cut]:
    whole = _call(block.call, number, at)
    text = whole["function"]["arguments"]
    whole["function"] = {**whole["function"], "arguments": ""}
    yield _chunk(chunk, {"tool_calls": [{"index": index, **whole}]})
    for piece in pieces(text):
        yield _chunk(chunk, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    for part in block.parts:
        yield from _other(part)


def _other(part: Part) -> Iterator[bytes | Hold | Cut]:
    if isinstance(part, Fault):
        yield _data({"error": {"message": part.message, "type": part.type, "param": None, "code": None}})
        yield Cut()
    elif isinstance(part, Raw):
        yield part.data
    elif isinstance(part, Hold | Cut):
        yield part


def _envelope(object: str, asked: Asked, number: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number:06}", "object": object, "created": CREATED, "model": asked.model}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }  # fmt: skip


def _joined(made: list[Block], kind: str) -> str | None:
    return "".join(block.text for block in made if block.kind == kind) or None


def _call(call: Call, number: int, at: int) -> dict[str, Any]:
    arguments = json.dumps(call.input)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id or f"call_{number:06}_{at}", "type": "function", "function": function}


def _chunk(chunk: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _data({**chunk, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]})


def _data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
