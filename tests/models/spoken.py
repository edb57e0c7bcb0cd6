"""Scripts and what was asked, as JSON, for tests that have the endpoint in another process.

A script is a list of rules, `{"when": "marker", "tools": true, "repeat": false, "replies": [...]}`. A reply is a text,
or `{"parts": [...], "stop": "end", "torn": 3}`, or `{"fail": 429, "message": "slowly", "retry_after": "1"}`. A part is
a text, or one of `{"call": "read", "input": {}}`, `{"thought": "hm"}`, `{"hold": "gate"}`, `{"cut": true}` and
`{"endless": "word "}`.
"""

from __future__ import annotations

from typing import Any

from tests.models.script import Asked, Call, Cut, Endless, Fail, Hold, Part, Reply, Rule, Say, Text, Thought, Tokens

__all__ = ["rules_of", "told"]


def rules_of(value: list[dict[str, Any]]) -> list[Rule]:
    """Raises KeyError or TypeError for what is no script."""
    return [
        Rule(
            [_reply(reply) for reply in rule["replies"]],
            rule.get("when"), rule.get("tools"), rule.get("repeat", False),
        )
        for rule in value
    ]  # fmt: skip


def told(asked: Asked) -> dict[str, Any]:
    """A request as another process sees it."""
    return {
        "shape": asked.shape, "path": asked.path, "headers": asked.headers, "body": asked.body, "texts": asked.texts,
        "tools": asked.tools, "outcome": asked.outcome,
    }  # fmt: skip


def _reply(value: str | dict[str, Any]) -> Reply:
    if isinstance(value, str):
        return Say(value)
    if "fail" in value:
        named = {name: value[name] for name in ("message", "retry_after", "type") if name in value}
        return Fail(value["fail"], **named)
    tokens = Tokens(**value["tokens"]) if "tokens" in value else None
    return Say(*map(_part, value["parts"]), stop=value.get("stop"), tokens=tokens, torn=value.get("torn"))


def _part(value: str | dict[str, Any]) -> Part:
    match value:
        case str():
            return Text(value)
        case {"call": name}:
            return Call(name, value.get("input", {}), value.get("id"))
        case {"thought": text}:
            return Thought(text)
        case {"hold": gate}:
            return Hold(gate)
        case {"cut": True}:
            return Cut()
        case {"endless": text}:
            return Endless(text)
    raise TypeError(f"{value!r} is no part of a reply")
