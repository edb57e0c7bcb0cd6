"""What the real APIs refuse, refused here too: an endpoint that took anything would prove nothing about a client."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.models.script import Asked, Shape

__all__ = ["problem"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def problem(asked: Asked) -> str | None:
    """What is wrong with the request, as the API would say it; None: nothing."""
    if not asked.body.get("model"):
        return "model: Field required"
    return _CHECKS[asked.shape](asked.body)


def _messages(body: dict[str, Any]) -> str | None:
    """Anthropic Messages."""
    messages = body.get("messages")
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if messages[0]["role"] != "user":
        return "messages: first message must use the user role"
    if not all(NAME.fullmatch(tool.get("name", "")) for tool in body.get("tools") or []):
        return "tools.0.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    if _count(body, "cache_control") > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    return _turns(messages)


def _turns(messages: list[dict[str, Any]]) -> str | None:
    owed: set[str] = set()
    for number, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not content:
            return f"messages.{number}: all messages must have non-empty content"
        if any(part["type"] == "text" and not part["text"].strip() for part in content):
            return f"messages.{number}: text content blocks must contain non-whitespace text"
        results = {part["tool_use_id"] for part in content if part["type"] == "tool_result"}
        if results - owed:
            return f"messages.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {min(results - owed)}"
        if message["role"] == "user" and owed - results:
            return f"messages.{number}: `tool_use` ids without `tool_result` blocks: {min(owed - results)}"
        owed = {part["id"] for part in content if part["type"] == "tool_use"}
    return f"messages: `tool_use` ids without `tool_result` blocks: {min(owed)}" if owed else None


def _chat(body: dict[str, Any]) -> str | None:
    """OpenAI chat completions."""
    if not body.get("messages"):
        return "Missing required parameter: 'messages'."
    owed: set[str] = set()
    for number, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in owed:
                return f"messages.[{number}].role: 'tool' must be a response to a preceding message with 'tool_calls'."
            owed.discard(message["tool_call_id"])
            continue
        if owed:
            return f"tool_call_ids did not have response messages: {min(owed)}"
        owed = {call["id"] for call in message.get("tool_calls") or []}
        if message["role"] == "assistant" and not owed and message.get("content") is None:
            return f"messages.[{number}].content: expected a string, got null."
    return f"tool_call_ids did not have response messages: {min(owed)}" if owed else None


def _responses(body: dict[str, Any]) -> str | None:
    """OpenAI responses."""
    given = body.get("input")
    if not given:
        return "Missing required parameter: 'input'."
    if isinstance(given, str) or body.get("previous_response_id"):
        return None
    called, answered = set(), set()
    for item in given:
        if item.get("type") in ("function_call", "custom_tool_call"):
            called.add(item["call_id"])
        elif item.get("type") in ("function_call_output", "custom_tool_call_output"):
            if item["call_id"] not in called:
                return f"No tool call found for function call output with call_id {item['call_id']}."
            answered.add(item["call_id"])
    missing = called - answered
    return f"No tool output found for function call {min(missing)}." if missing else None


def _count(value: Any, name: str) -> int:
    if isinstance(value, dict):
        return (name in value) + sum(_count(inner, name) for inner in value.values())
    return sum(_count(inner, name) for inner in value) if isinstance(value, list) else 0


_CHECKS: dict[Shape, Callable[[dict[str, Any]], str | None]] = {
    "anthropic": _messages,
    "openai-chat": _chat,
    "openai-responses": _responses,
}
