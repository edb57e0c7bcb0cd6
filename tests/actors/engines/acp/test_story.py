"""What an agent says, as what is shown of it: compared with the protocol's own models, and with anything at all."""

import json
from typing import Any

import pytest
from acp import schema
from hypothesis import given
from hypothesis import strategies as st

from actors.engines.acp import story as story_module
from actors.engines.acp.calls import act_of, action_of, text_of, tool_of
from actors.engines.acp.facts import Facts
from actors.engines.acp.rpc import Refused
from actors.engines.acp.story import MESSAGE_BYTES, Delta, Event, Output, Slice, Story
from actors.permissions import Act, Rule, Verdict, decide, rule_of
from actors.question import ACTION_BYTES
from protocol.events import encode
from tests.actors.engines.acp.test_rpc import JSON

NAMES = (
    "agent_message_chunk", "agent_thought_chunk", "user_message_chunk", "tool_call", "tool_call_update", "plan",
    "usage_update", "current_mode_update", "available_commands_update", "config_option_update", "session_info_update",
)  # fmt: skip
MEMBERS = (
    "content", "toolCallId", "title", "kind", "status", "locations", "rawInput", "rawOutput", "entries", "used", "size",
    "cost", "currentModeId", "availableCommands", "configOptions", "messageId",
)  # fmt: skip
UPDATES = st.builds(
    lambda kind, members: {"sessionUpdate": kind, **members},
    st.sampled_from(NAMES) | JSON,
    st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=5),
)


def chunk(text: str, kind: str = "agent_message_chunk", **more: Any) -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}, **more}


def told(story: Story, *updates: dict[str, Any]) -> list[Any]:
    return [said for update in updates for said in story.take(update)]


def begun() -> Story:
    story = Story({})
    story.begin("run", "do it")
    return story


@given(st.lists(UPDATES, max_size=8))
def test_no_update_breaks_anything_and_all_that_is_shown_is_json(updates: list[dict[str, Any]]) -> None:
    story, facts = begun(), Facts(None)
    for update in updates:
        for said in facts.take(update) or story.take(update):
            if isinstance(said, Event | Slice):
                encode(said.data if isinstance(said, Event) else said.value)
    for said in story.end():
        assert isinstance(said, Event | Slice)


@given(st.lists(st.tuples(st.booleans(), st.text(min_size=1, max_size=9)), max_size=12))
def test_deltas_and_messages_say_the_same(pieces: list[tuple[bool, str]]) -> None:
    story = begun()
    said = told(
        story, *(chunk(text, "agent_thought_chunk" if thought else "agent_message_chunk") for thought, text in pieces)
    )
    said += story.end()
    deltas: dict[int, str] = {}
    for one in said:
        if isinstance(one, Delta):
            deltas[one.message] = deltas.get(one.message, "") + one.text
    whole = {one.data["message"]: one.data["text"] for one in said if isinstance(one, Event)}
    assert deltas == whole
    assert "".join(text for thought, text in pieces) == "".join(whole[n] for n in sorted(whole))


def test_a_new_message_id_a_tool_call_and_the_end_make_a_message_whole() -> None:
    story = begun()
    said = told(story, chunk("a", messageId="1"), chunk("b", messageId="1"), chunk("c", messageId="2"))
    said += told(story, {"sessionUpdate": "tool_call", "toolCallId": "t", "title": "T"}, chunk("d"))
    said += story.end()
    assert [one.data["text"] for one in said if isinstance(one, Event) and one.name == "message"] == ["ab", "c", "d"]
    assert "".join(one.text for one in said if isinstance(one, Output)) == "ab\nc\nd"
    assert story.text == "d"


def test_a_message_is_kept_up_to_a_bound() -> None:
    story = begun()
    for _ in range(5):
        told(story, chunk("x" * (MESSAGE_BYTES // 2)))
    [event, _] = story.end()
    assert isinstance(event, Event)
    assert event.data["bytes"] == MESSAGE_BYTES // 2 * 5
    assert len(story.text) < MESSAGE_BYTES + 100


def test_what_a_tool_prints_changes_the_slice_and_is_no_event_before_its_end() -> None:
    story = begun()
    call = {"sessionUpdate": "tool_call", "toolCallId": "t", "title": "Build", "kind": "execute"}
    printed = {"sessionUpdate": "tool_call_update", "toolCallId": "t", "rawOutput": "..."}
    ended = {"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"}
    names = [
        [one.name for one in told(story, update) if isinstance(one, Event | Slice)] for update in (call, printed, ended)
    ]
    assert names == [["conversation", "tools", "tool"], ["tools"], ["tools", "tool"]]
    assert not story.ends_a_step(call)
    assert story.ends_a_step(ended)


def test_what_did_not_end_has_failed_with_the_turn() -> None:
    story = begun()
    told(story, {"sessionUpdate": "tool_call", "toolCallId": "t", "status": "in_progress"})
    [event, tools] = story.end()
    assert isinstance(event, Event)
    assert event.data["status"] == "failed"
    assert isinstance(tools, Slice)


def test_an_id_that_is_used_again_in_another_turn_is_another_call() -> None:
    story = begun()
    told(story, {"sessionUpdate": "tool_call", "toolCallId": "t", "title": "A", "status": "completed"})
    story.end()
    story.begin("run-2", "again")
    said = told(story, {"sessionUpdate": "tool_call", "toolCallId": "t", "title": "B"})
    [tools] = [one.value for one in said if isinstance(one, Slice) and one.name == "tools"]
    assert [(tool["run_id"], tool["title"]) for tool in tools] == [("run", "A"), ("run-2", "B")]


def test_what_is_remembered_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "CALLS_BYTES", 1000)
    story = begun()
    for name in ("first", "second"):
        told(story, {"sessionUpdate": "tool_call", "toolCallId": name, "title": name, "rawInput": {"x": "x" * 700}})
    assert story.call({"toolCallId": "first"}) == {}
    assert story.call({"toolCallId": "second"})["title"] == "second"


def test_a_call_with_an_endless_id_is_no_call_and_shows_little() -> None:
    said = told(begun(), {"sessionUpdate": "tool_call", "toolCallId": "x" * (1 << 20), "title": "t"})
    assert [one.name for one in said] == ["update"]
    assert len(encode(said[0].data)) < 20_000


def test_costs_of_a_session_add_up_once() -> None:
    def cost(amount: float) -> dict[str, Any]:
        return {"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": {"amount": amount, "currency": "USD"}}

    def total(said: list[Any]) -> float:
        found: float = [one.value["cost_usd"] for one in said if isinstance(one, Slice)][-1]
        return found

    story = begun()
    assert total(told(story, cost(1.0), cost(1.5))) == 1.5
    found_again = Story({"usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 1.5}})
    found_again.begin("r", "x")
    assert total(told(found_again, cost(1.75))) == 1.75
    assert found_again.cost_usd == 0.25
    found_again.fresh()
    assert total(told(found_again, cost(0.25))) == 2.0
    assert told(found_again, {**cost(9), "cost": {"amount": 9, "currency": "EUR"}}) == []


# -- tool calls ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "call, act",
    [
        (
            {"title": "Edit a.py", "kind": "edit", "locations": [{"path": "/w/a.py"}]},
            Act(tool="edit", kind="edit", paths=("/w/a.py",)),
        ),
        (
            {"title": "Move", "kind": "move", "rawInput": {"source": "a", "destination": "../b"}},
            Act(tool="move", kind="move", paths=("/w/a", "/b")),
        ),
        (
            {"title": "x", "kind": "edit", "content": [{"type": "diff", "path": "/w/c", "newText": "n"}]},
            Act(tool="edit", kind="edit", paths=("/w/c",)),
        ),
        (
            {"title": "x", "kind": "edit", "rawInput": {"changes": {"/w/d": {"type": "add"}}}},
            Act(tool="edit", kind="edit", paths=("/w/d",)),
        ),
        (
            {"title": "npm test", "kind": "execute", "rawInput": {"command": "npm test"}},
            Act(tool="execute", kind="execute", command="npm test"),
        ),
        (
            {"kind": "execute", "rawInput": {"command": ["/bin/bash", "-lc", "a && b"]}},
            Act(tool="execute", kind="execute", command="a && b"),
        ),
        (
            {"kind": "execute", "rawInput": {"cmd": ["rm", "a b"]}},
            Act(tool="execute", kind="execute", command="rm 'a b'"),
        ),
        (
            {"kind": "execute", "rawInput": {"command": "git", "args": ["push"]}},
            Act(tool="execute", kind="execute", command="git push"),
        ),
        ({"title": "Fetch http://x", "kind": "fetch"}, Act(tool="Fetch http://x", kind="fetch")),
        ({"title": "Run", "kind": "execute"}, Act(tool="Run", kind="execute")),
        ({"title": "Do"}, Act(tool="Do", kind="other")),
        ({"title": 7, "kind": [], "locations": [7, {"path": 7}], "rawInput": 7}, Act(tool="", kind="other")),
        ({"title": "execute", "kind": "fetch"}, Act(tool="", kind="fetch")),
        ({"title": "x", "kind": "of tomorrow"}, Act(tool="x", kind="other")),
    ],
)
def test_a_call_as_rules_match_it(call: dict[str, Any], act: Act) -> None:
    assert act_of(call, cwd="/w") == act


@pytest.mark.parametrize(
    "call",
    [
        {"title": "execute", "kind": "other"},
        {"kind": "execute"},
        {"title": "execute", "kind": "execute", "locations": [{"path": "/w/a"}]},
        {"title": "mine", "kind": "other"},
        {"title": "*", "kind": "execute"},
    ],
)
@pytest.mark.parametrize("kind", ["execute", "mine"])
def test_no_title_and_no_kind_of_its_own_makes_always_mean_every_command(call: dict[str, Any], kind: str) -> None:
    rule = rule_of(act_of(call, cwd="/w"), Verdict.ALLOW)
    more = {"locations": [{"path": "/w/a"}], "rawInput": {"command": "rm -rf /"}}
    other = act_of({"title": "execute", "kind": kind, **more}, cwd="/w")
    assert decide([rule] if rule is not None else [], other) is Verdict.ASK


def test_a_rule_of_always_is_no_wider_than_what_was_shown() -> None:
    fetched = act_of({"title": "Fetch http://x", "kind": "fetch"}, cwd="/w")
    rule = rule_of(fetched, Verdict.ALLOW)
    assert isinstance(rule, Rule)
    assert decide([rule], fetched) is Verdict.ALLOW
    assert decide([rule], act_of({"title": "Fetch http://y", "kind": "fetch"}, cwd="/w")) is Verdict.ASK


@given(st.dictionaries(st.sampled_from(["title", "kind", "rawInput", "content", "locations"]), JSON))
def test_the_action_of_any_call_is_small_json_and_always_the_same(call: dict[str, Any]) -> None:
    action = action_of(call, act_of(call, cwd="/w"))
    assert action == action_of(call, act_of(call, cwd="/w"))
    assert len(encode(action)) < ACTION_BYTES
    encode(tool_of(call))


def test_what_is_large_in_an_action_is_named_by_its_hash() -> None:
    content = [{"type": "diff", "path": f"/w/{n}", "oldText": "o" * 9000, "newText": "n" * 9000} for n in range(200)]
    call = {"title": "T", "kind": "edit", "rawInput": {"text": "x" * 100_000}, "content": content}
    action = action_of(call, act_of(call, cwd="/w"))
    assert action["input"]["text"]["bytes"] == 100_000
    assert len(encode(action)) < ACTION_BYTES
    other = {**call, "rawInput": {"text": "x" * 99_999 + "y"}}
    assert action != action_of(other, act_of(other, cwd="/w"))


# -- the protocol's own models ---------------------------------------------------------------------------------------
def model(name: str, **members: Any) -> dict[str, Any]:
    """A value as the models of the reference say it on the wire."""
    value: dict[str, Any] = json.loads(
        getattr(schema, name)(**members).model_dump_json(by_alias=True, exclude_none=True)
    )
    return value


def test_what_the_reference_says_is_understood() -> None:
    story = begun()
    text = model("TextContentBlock", type="text", text="hello")
    said = told(story, model("AgentMessageChunk", session_update="agent_message_chunk", content=text))
    assert [type(one) for one in said] == [Delta, Output]
    diff = model("FileEditToolCallContent", type="diff", path="/a", old_text="o", new_text="n")
    start = model(
        "ToolCallStart", session_update="tool_call", tool_call_id="t", title="Edit", kind="edit", status="pending",
        content=[diff], locations=[{"path": "/a", "line": 3}], raw_input={"x": 1},
    )  # fmt: skip
    [event] = [one for one in told(story, start) if isinstance(one, Event) and one.name == "tool"]
    assert event.data == {
        "id": "t", "run_id": "run", "name": "edit", "kind": "edit", "title": "Edit", "status": "pending",
        "paths": ["/a"], "input": {"x": 1}, "diffs": [{"path": "/a", "old": "o", "new": "n"}],
    }  # fmt: skip
    plan = model(
        "AgentPlanUpdate", session_update="plan", entries=[{"content": "c", "priority": "low", "status": "completed"}]
    )
    assert Slice("plan", [{"content": "c", "status": "completed", "priority": "low"}]) in told(story, plan)
    usage = model("UsageUpdate", session_update="usage_update", used=3, size=9, cost={"amount": 0.5, "currency": "USD"})
    assert story.cost_usd == 0
    told(story, usage)
    assert story.cost_usd == 0.5
    spent, _ = story.spent(model("Usage", total_tokens=9, input_tokens=4, output_tokens=5, cached_read_tokens=1))
    assert spent == {"input_tokens": 4, "output_tokens": 5, "total_tokens": 9, "cached_tokens": 1, "cost_usd": 0.5}


def test_what_the_reference_says_of_a_session_is_understood() -> None:
    facts = Facts(None)
    capabilities = {"loadSession": True, "sessionCapabilities": {"resume": {}, "list": {}}}
    facts.initialized(model("InitializeResponse", protocol_version=1, agent_capabilities=capabilities))
    assert facts.can("loadSession")
    assert facts.can("sessionCapabilities", "resume")
    assert not facts.can("sessionCapabilities", "close")
    assert not facts.can("promptCapabilities", "image")
    modes = {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "code", "name": "Code"}]}
    option = {
        "id": "m", "name": "Model", "category": "model", "type": "select", "currentValue": "a",
        "options": [{"value": "a", "name": "A"}, {"value": "b", "name": "B"}],
    }  # fmt: skip
    facts.opened("s", "new", model("NewSessionResponse", session_id="s", modes=modes, config_options=[option]))
    assert facts.setting("mode", "code") == ("session/set_mode", {"sessionId": "s", "modeId": "code"})
    method, params = facts.setting("model", "b")
    assert (method, params) == ("session/set_config_option", {"sessionId": "s", "configId": "m", "value": "b"})
    schema.SetSessionConfigOptionSelectRequest.model_validate(params)
    with pytest.raises(Refused, match="there is 'a', 'b'"):
        facts.setting("model", "c")
    mode = model("CurrentModeUpdate", session_update="current_mode_update", current_mode_id="code")
    said = facts.take(mode)
    assert said is not None
    assert said[0] == Event("mode", {"mode": "code"})


@pytest.mark.parametrize(
    "block, text",
    [
        ({"type": "text", "text": "t"}, "t"),
        ({"type": "resource_link", "uri": "file:///a", "name": "a"}, "[a](file:///a)"),
        ({"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "file:///a", "blob": "AA"}}, "[resource file:///a]"),
        ({"type": "image", "data": "AAAA", "mimeType": "image/png"}, "[image image/png, 3 bytes]"),
        ({"type": "of-tomorrow"}, "[of-tomorrow]"),
        (7, ""),
        ({}, ""),
    ],
)
def test_a_block_that_is_no_text_says_what_it_is(block: Any, text: str) -> None:
    assert text_of(block) == text
