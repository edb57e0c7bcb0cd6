"""Questions as an agent asks them, for the SDKs' types to look at: conversations of every kind of part."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from actors.engines.agent.model import Text, Thought, Tool, ToolCall, ToolResult, Turn
from actors.engines.agent.shape import Asking

__all__ = ["asking"]

texts = st.text(max_size=20) | st.just(" \n")
names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
inputs = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
tools = st.builds(Tool, names, texts, st.just({"type": "object", "properties": {"path": {"type": "string"}}}))


@st.composite
def conversations(draw: Any) -> list[Turn]:
    """The user begins and ends, and every call is answered in the turn that follows it."""
    turns = [Turn("user", (Text("Begin."), *draw(st.lists(st.builds(Text, texts), max_size=2))))]
    for number in range(draw(st.integers(0, 3))):
        calls = [ToolCall(f"c{number}-{at}", draw(names), draw(inputs)) for at in range(draw(st.integers(0, 3)))]
        thoughts = draw(
            st.lists(st.builds(Thought, texts, st.sampled_from(["", "rs_1 abc"]), st.just(False)), max_size=1)
        )
        said = draw(st.lists(st.builds(Text, texts), max_size=1))
        turns.append(Turn("agent", (*thoughts, *said, *calls)))
        results = [ToolResult(call.id, draw(texts), draw(st.booleans())) for call in calls]
        turns.append(Turn("user", (*draw(st.lists(st.builds(Text, texts), max_size=1)), *results, Text("Go on."))))
    return turns


asking = st.builds(
    Asking,
    model=st.just("test-model"),
    system=texts,
    turns=conversations(),
    tools=st.lists(tools, max_size=2),
    max_output_tokens=st.integers(1, 10_000),
    temperature=st.none() | st.floats(0, 1),
    effort=st.sampled_from([None, "low", "medium", "high"]),
    official=st.booleans(),
)
