"""The OpenAI shape of responses: `POST /v1/responses`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from tests.models.openai_chat import error
from tests.models.script import (
    Asked,
    Block,
    Call,
    Cut,
    Endless,
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

CREATED = 1_760_000_000

Event = Callable[..., bytes]


def texts(sent: dict[str, Any]) -> list[str]:
    """What the user messages of the request say."""
    given = sent.get("input")
    if isinstance(given, str):
        return [given]
    said = []
    for item in given or []:
        if item.get("role") == "user":
            content = item.get("content")
            parts = [content] if isinstance(content, str) else [part.get("text") for part in content or []]
            said.append("\n".join(part for part in parts if part))
    return [text for text in said if text]


def body(say: Say, asked: Asked, number: int, tokens: Tokens) -> dict[str, Any]:
    """The whole answer at once."""
    made = (block for block in blocks(say) if isinstance(block, Block))
    output = [_item(block, number, at, done=True) for at, block in enumerate(made)]
    return _ended(say, asked, number, tokens, output)


def stream(say: Say, asked: Asked, number: int, tokens: Tokens) -> Iterator[bytes | Hold | Cut]:
    """The answer as server-sent events."""
    numbers = count()

    def event(type: str, **data: Any) -> bytes:
        whole = {"type": type, "sequence_number": next(numbers), **data}
        return f"event: {type}\ndata: {json.dumps(whole)}\n\n".encode()

    opened = _response(asked, number, "in_progress")
    yield event("response.created", response=opened)
    yield event("response.in_progress", response=opened)
    output: list[dict[str, Any]] = []
    for item in blocks(say):
        if not isinstance(item, Block):
            yield from _other(item, event)
            continue
        at = len(output)
        yield event("response.output_item.added", output_index=at, item=_item(item, number, at, done=False))
        yield from {"text": _said, "thought": _thought, "call": _called}[item.kind](item, number, at, event)
        output.append(_item(item, number, at, done=True))
        yield event("response.output_item.done", output_index=at, item=output[-1])
    ended = _ended(say, asked, number, tokens, output)
    yield event(f"response.{ended['status']}", response=ended)


def _said(block: Block, number: int, at: int, event: Event) -> Iterator[bytes | Hold | Cut]:
    place = {"item_id": _id(block, number, at), "output_index": at, "content_index": 0}
    yield event("response.content_part.added", **place, part=_text(""))
    for part in block.parts:
        if isinstance(part, Text):
            for piece in pieces(part.text):
                yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        elif isinstance(part, Endless):
            while True:
                yield event("response.output_text.delta", **place, delta=part.text, logprobs=[])
        else:
            yield from _other(part, event)
    yield event("response.output_text.done", **place, text=block.text, logprobs=[])
    yield event("response.content_part.done", **place, part=_text(block.text))


def _thought(block: Block, number: int, at: int, event: Event) -> Iterator[bytes | Hold | Cut]:
    place = {"item_id": _id(block, number, at), "output_index": at, "summary_index": 0}
    yield event("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
    for part in block.parts:
        if isinstance(part, Thought):
            for piece in pieces(part.text):
                yield event("response.reasoning_summary_text.delta", **place, delta=piece)
        else:
            yield from _other(part, event)
    yield event("response.reasoning_summary_text.done", **place, text=block.text)
    yield event("response.reasoning_summary_part.done", **place, part={"type": "summary_text", "text": block.text})


def _called(block: Block, number: int, at: int, event: Event) -> Iterator[bytes | Hold | Cut]:
    place = {"item_id": _id(block, number, at), "output_index": at}
    call = block.call
    if isinstance(call.input, str):
        for piece in pieces(call.input):
            yield event("response.custom_tool_call_input.delta", **place, delta=piece)
        yield event("response.custom_tool_call_input.done", **place, input=call.input)
    else:
        arguments = json.dumps(call.input)
        for piece in pieces(arguments):
            yield event("response.function_call_arguments.delta", **place, delta=piece)
        yield event("response.function_call_arguments.done", **place, name=call.name, arguments=arguments)
    for part in block.parts:
        yield from _other(part, event)


def _other(part: Part, event: Event) -> Iterator[bytes | Hold | Cut]:
    if isinstance(part, Fault):
        yield event("error", code=part.type, message=part.message, param=None)
        yield Cut()
    elif isinstance(part, Raw):
        yield part.data
    elif isinstance(part, Hold | Cut):
        yield part


def _id(block: Block, number: int, at: int) -> str:
    return {"text": "msg", "thought": "rs", "call": "fc"}[block.kind] + f"_{number:06}_{at}"


def _item(block: Block, number: int, at: int, *, done: bool) -> dict[str, Any]:
    """An item of the output, empty when it begins and whole when it is done."""
    called = {"id": _id(block, number, at), "status": "completed" if done else "in_progress"}
    if block.kind == "text":
        content = [_text(block.text)] if done else []
        return {**called, "type": "message", "role": "assistant", "content": content}
    if block.kind == "thought":
        summary = [{"type": "summary_text", "text": block.text}] if done else []
        return {"id": called["id"], "type": "reasoning", "summary": summary, "encrypted_content": block.signature}
    return _call(block.call, number, at, done=done) | called


def _call(call: Call, number: int, at: int, *, done: bool) -> dict[str, Any]:
    called = {"call_id": call.id or f"call_{number:06}_{at}", "name": call.name}
    if isinstance(call.input, str):
        return {"type": "custom_tool_call", **called, "input": call.input if done else ""}
    return {"type": "function_call", **called, "arguments": json.dumps(call.input) if done else ""}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _ended(say: Say, asked: Asked, number: int, tokens: Tokens, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": tokens.input, "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.input + tokens.output,
    }  # fmt: skip
    why = {"length": "max_output_tokens", "refusal": "content_filter"}.get(say.stop)
    ended = _response(asked, number, "incomplete" if why else "completed")
    return ended | {"output": output, "usage": usage, "incomplete_details": {"reason": why} if why else None}


def _response(asked: Asked, number: int, status: str) -> dict[str, Any]:
    sent = asked.body
    return {
        "id": f"resp_{number:06}", "object": "response", "created_at": CREATED, "status": status, "error": None,
        "incomplete_details": None, "instructions": sent.get("instructions"), "metadata": {}, "model": asked.model,
        "output": [], "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0,
        "tool_choice": sent.get("tool_choice", "auto"), "tools": sent.get("tools") or [], "store": False,
        "truncation": "disabled", "usage": None,
    }  # fmt: skip
