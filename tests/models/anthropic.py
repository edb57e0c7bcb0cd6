"""The Anthropic Messages shape: `POST /v1/messages`."""

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

STOPS = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip


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
    kind = fail.type or TYPES.get(fail.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": fail.message}, "request_id": "req_test"}


def body(say: Say, asked: Asked, number: int, tokens: Tokens) -> dict[str, Any]:
    """The whole answer at once."""
    content: list[dict[str, Any]] = []
    for at, block in enumerate(block for block in blocks(say) if isinstance(block, Block)):
        if block.kind == "call":
            content.append(_call(block.call, number, at))
        elif block.kind == "thought":
            content.append({"type": "thinking", "thinking": block.text, "signature": block.signature})
        else:
            content.append({"type": "text", "text": block.text})
    usage = _usage(tokens) | {"output_tokens": tokens.output}
    return _message(asked, number) | {"content": content, "stop_reason": STOPS[say.stop], "usage": usage}


def stream(say: Say, asked: Asked, number: int, tokens: Tokens) -> Iterator[bytes | Hold | Cut]:
    """The answer as server-sent events."""
    start = _message(asked, number) | {"usage": _usage(tokens) | {"output_tokens": 1}}
    yield _event("message_start", message=start)
    yield _event("ping")
    index = 0
    for item in blocks(say):
        if isinstance(item, Block):
            yield from _block(item, number, index)
            index += 1
        else:
            yield from _other(item)
    yield _event(
        "message_delta",
        delta={"stop_reason": STOPS[say.stop], "stop_sequence": None},
        usage={"output_tokens": tokens.output},
    )
    yield _event("message_stop")


def _block(block: Block, number: int, index: int) -> Iterator[bytes | Hold | Cut]:
    empty: dict[str, Any] = {"type": "text", "text": ""}
    if block.kind == "call":
        empty = _call(block.call, number, index) | {"input": {}}
    elif block.kind == "thought":
        empty = {"type": "thinking", "thinking": "", "signature": ""}
    yield _event("content_block_start", index=index, content_block=empty)
    for part in block.parts:
        if isinstance(part, Text):
            for piece in pieces(part.text):
                yield _delta(index, type="text_delta", text=piece)
        elif isinstance(part, Thought):
            for piece in pieces(part.text):
                yield _delta(index, type="thinking_delta", thinking=piece)
        elif isinstance(part, Call):
            for piece in ["", *pieces(json.dumps(part.input))]:
                yield _delta(index, type="input_json_delta", partial_json=piece)
        elif isinstance(part, Endless):
            yield from repeat(_delta(index, type="text_delta", text=part.text))
        else:
            yield from _other(part)
    if block.kind == "thought":
        yield _delta(index, type="signature_delta", signature=block.signature)
    yield _event("content_block_stop", index=index)


def _other(part: Part) -> Iterator[bytes | Hold | Cut]:
    if isinstance(part, Fault):
        yield _event("error", error={"type": part.type, "message": part.message})
        yield Cut()
    elif isinstance(part, Raw):
        yield part.data
    elif isinstance(part, Hold | Cut):
        yield part


def _message(asked: Asked, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_{number:06}", "type": "message", "role": "assistant", "model": asked.model, "content": [],
        "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip


def _usage(tokens: Tokens) -> dict[str, Any]:
    """`input_tokens` are those that no cache had (Anthropic, "Prompt caching")."""
    return {
        "input_tokens": tokens.input - tokens.cached, "cache_read_input_tokens": tokens.cached,
        "cache_creation_input_tokens": 0,
    }  # fmt: skip


def _call(call: Call, number: int, index: int) -> dict[str, Any]:
    made = f"toolu_{number:06}_{index}"
    return {"type": "tool_use", "id": call.id or made, "name": call.name, "input": call.input}


def _delta(index: int, **delta: Any) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)


def _event(type: str, **data: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **data})}\n\n".encode()
