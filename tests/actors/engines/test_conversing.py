"""The shapes that every kind that converses shows: bounded, whatever is put in."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.engines import conversing
from actors.engines.conversing import Conversation, Tools, brief, shortened
from protocol.events import encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_turns_of_one_speaker_and_run_are_one() -> None:
    conversation = Conversation()
    conversation.say("user", "r1", "hi")
    conversation.say("agent", "r1", "hm", thought=True)
    conversation.use("r1", "t1")
    conversation.say("agent", "r1", "hello")
    conversation.say("user", "r2", "more")
    assert [(turn["role"], turn["run_id"]) for turn in conversation.value] == [
        ("user", "r1"), ("agent", "r1"), ("user", "r2"),
    ]  # fmt: skip
    assert conversation.value[1]["parts"] == [
        {"type": "thought", "text": "hm"}, {"type": "tool", "tool_id": "t1"}, {"type": "text", "text": "hello"},
    ]  # fmt: skip


def test_a_value_that_was_given_out_never_changes() -> None:
    conversation, tools = Conversation(), Tools()
    conversation.say("agent", "r", "one")
    tools.change("r", "t", {"title": "one"})
    before = json.dumps([conversation.value, tools.value])
    given_out = [conversation.value, tools.value]
    conversation.say("agent", "r", "two")
    tools.change("r", "t", {"title": "two"})
    assert json.dumps(given_out) == before
    assert conversation.value != given_out[0]


def test_what_an_earlier_incarnation_left_goes_on() -> None:
    first = Conversation()
    first.say("user", "r", "hi")
    second = Conversation(first.value)
    second.say("user", "r", "again")
    assert [part["text"] for part in second.value[0]["parts"]] == ["hi", "again"]
    tools = Tools(Tools([]).value)
    tools.change("r", "t", {"status": "completed"})
    found = Tools(tools.value).get("r", "t")
    assert found is not None
    assert found["status"] == "completed"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 90_000)), max_size=30))
def test_a_conversation_is_bounded_and_its_end_is_kept(said: list[tuple[bool, int, int]]) -> None:
    conversation = Conversation()
    for number, (ours, run, size) in enumerate(said):
        conversation.say("user" if ours else "agent", f"r{run}", f"{number}:" + "é" * size)
    value = conversation.value
    assert len(encode(value)) < conversing.CONVERSATION_BYTES + 2 * conversing.TEXT_BYTES
    assert len(value) <= conversing.TURNS
    if said:
        assert value[-1]["parts"][-1]["text"].startswith(f"{len(said) - 1}:")


@given(st.lists(st.tuples(st.text(max_size=3), st.dictionaries(st.sampled_from(["input"]), JSON)), max_size=30))
def test_tools_are_bounded(calls: list[tuple[str, dict[str, Any]]]) -> None:
    tools = Tools()
    for name, members in calls:
        big = {"output": "o" * 100_000, "paths": ["p" * 10_000] * 50, "title": "t" * 10_000}
        diffs = [{"path": "p", "old": None, "new": "n" * 50_000}] * 20
        tools.change("r", name, {**members, **big, "diffs": diffs})
    assert len(encode(tools.value)) < 2 * conversing.TOOLS_BYTES
    assert len(tools.value) <= conversing.TOOLS


def test_the_oldest_of_many_tools_go() -> None:
    tools = Tools()
    for number in range(conversing.TOOLS + 5):
        tools.change("r", str(number), {})
    assert [tools.value[0]["id"], len(tools.value)] == ["5", conversing.TOOLS]


@given(st.text(), st.integers(4, 200))
def test_a_text_is_cut_at_a_character_and_says_how_much_is_missing(text: str, most_bytes: int) -> None:
    cut = shortened(text, most_bytes)
    if len(text.encode()) <= most_bytes:
        assert cut == text
    else:
        begins, _, rest = cut.rpartition("… (")
        assert text.startswith(begins)
        assert rest.endswith(" bytes more)")
        assert len(begins.encode()) <= most_bytes


@given(JSON, st.integers(64, 500))
def test_a_value_is_small_json_afterwards(value: Any, most_bytes: int) -> None:
    assert len(encode(brief(value, most_bytes))) <= 4 * most_bytes + 20 * 64 + 600


def test_what_is_nested_deeply_becomes_a_text() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert isinstance(brief(deep, 4096), str)
    assert isinstance(brief({"a": deep}, 4096)["a"], str)
