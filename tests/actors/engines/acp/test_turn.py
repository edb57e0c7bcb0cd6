"""A run is a turn: what the agent says becomes events, slices, output and the run's result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.bodies import ReplyBody
from protocol.commands import Signal
from supervisor import Filter

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]


async def test_the_protocols_own_example_works(drive: Any, sdk: Path) -> None:
    engine = await drive.spawn("acp", {"agent": "example", "cwd": str(sdk)})
    async with drive.seen(engine, "request.opened"):
        run = await drive.submit(engine, "hello")
    [request] = (await drive.house.requests()).items
    assert (request.kind, request.title) == ("permission", "Modifying critical configuration file")
    assert [Path(path).name for path in request.action["paths"]] == ["config.json"]
    async with drive.seen(engine, "run.completed"):
        await drive.house.reply(request.id, ReplyBody(option="allow"))
    info = await drive.house.run(run)
    assert info.result["stop_reason"] == "end_turn"
    assert info.result["text"].endswith("updated the configuration. The changes have been applied.")
    assert [tool["status"] for tool in (await drive.house.slice(engine, "tools")).value] == ["completed", "completed"]


async def test_what_is_said_becomes_output_events_and_the_conversation(drive: Any, odd: Odd) -> None:
    script = """
    def prompt(params):
        say("Let me ", "agent_thought_chunk"); say("think.", "agent_thought_chunk")
        say("Hel"); say("lo.")
        call("c1", title="Look", kind="read", locations=[{"path": "/x"}])
        changed("c1", status="completed", content=[{"type": "content", "content": {"type": "text", "text": "seen"}}])
        say("Do"); say("ne.")
        return {"stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    run = await drive.run(engine, "hi")
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    assert run.result == {"text": "Done.", "stop_reason": "end_turn", "usage": usage}
    assert run.usage == {"tokens": 7}
    assert (await drive.house.output(run.id))[0] == b"Hello.\nDone."
    assert (await drive.house.slice(engine, "conversation")).value == [
        {"role": "user", "run_id": run.id, "parts": [{"type": "text", "text": "hi"}]},
        {
            "role": "agent",
            "run_id": run.id,
            "parts": [
                {"type": "thought", "text": "Let me think."},
                {"type": "text", "text": "Hello."},
                {"type": "tool", "tool_id": "c1"},
                {"type": "text", "text": "Done."},
            ],
        },
    ]
    [tool] = (await drive.house.slice(engine, "tools")).value
    assert (tool["status"], tool["paths"], tool["output"]) == ("completed", ["/x"], "seen")
    assert (await drive.house.slice(engine, "usage")).value == usage
    await drive.run(engine, "again")
    assert (await drive.house.slice(engine, "usage")).value["total_tokens"] == 14


async def test_pieces_are_deltas_of_numbered_messages(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn(
        "acp", odd("serve(lambda p: [say('a'), say('b'), say('c', 'agent_thought_chunk')] and None)")
    )
    async with drive.house.events(Filter(engine=engine, types=("message.delta", "run.completed"))) as events:
        await drive.submit(engine, "x")
        frames: list[Any] = []
        while not frames or frames[-1].event != "run.completed":
            frames += await events.receive()
    deltas = [json.loads(frame.data)["data"] for frame in frames[:-1]]
    assert deltas == [
        {"message": 1, "type": "text", "text": "a"},
        {"message": 1, "type": "text", "text": "b"},
        {"message": 2, "type": "thought", "text": "c"},
    ]


@pytest.mark.parametrize(
    "result, status, slug",
    [
        ("'end_turn'", "completed", None),
        ("'max_tokens'", "completed", None),
        ("'max_turn_requests'", "completed", None),
        ("'a_reason_of_tomorrow'", "completed", None),
        ("'refusal'", "failed", "refused"),
        ("'cancelled'", "failed", "agent-cancelled"),
        ("{}", "failed", "agent-error"),
        ("[]", "failed", "agent-error"),
    ],
)
async def test_how_a_turn_ends_is_how_the_run_ends(
    drive: Any, odd: Odd, result: str, status: str, slug: str | None
) -> None:
    engine = await drive.spawn("acp", odd(f"serve(lambda params: {result})"))
    run = await drive.run(engine, "x")
    assert (run.status, (run.error or {}).get("slug")) == (status, slug)
    assert (await drive.house.get(engine)).state == "running"


async def test_an_error_for_an_answer_fails_the_run_alone(drive: Any, odd: Odd) -> None:
    script = """
    def prompt(params):
        say("I was about to")
        raise Error({"code": -32603, "message": "Internal error", "data": {"details": "no model today"}})
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    run = await drive.run(engine, "x")
    assert run.error["slug"] == "agent-error"
    assert "no model today" in run.error["detail"]
    assert run.result["text"] == "I was about to"
    assert (await drive.run(engine, "y")).status == "failed"
    assert (await drive.house.get(engine)).incarnation == 1


async def test_plan_mode_commands_usage_and_what_nobody_knows(drive: Any, odd: Odd) -> None:
    script = """
    def prompt(params):
        update("plan", entries=[{"content": "Look", "status": "in_progress", "priority": "high"}, {"content": "Write"}, 7])
        update("current_mode_update", currentModeId="code")
        update("available_commands_update", availableCommands=[{"name": "web", "description": "Search"}])
        update("usage_update", used=10, size=100, cost={"amount": 0.25, "currency": "USD"})
        update("tea_ready", sugar=2)
        update("agent_message_chunk", "another-session", content={"type": "text", "text": "psst"})
        send(method="_vendor/thing", params={"a": 1})
        send(method="$/progress")
    serve(prompt, new={"modes": {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "code", "name": "Code"}]}})
    """
    engine = await drive.spawn("acp", odd(script))
    run = await drive.run(engine, "x")
    assert run.usage == run.result["usage"] == {"cost_usd": 0.25}
    assert (await drive.house.slice(engine, "plan")).value == [
        {"content": "Look", "status": "in_progress", "priority": "high"},
        {"content": "Write", "status": "pending"},
    ]
    session = (await drive.house.slice(engine, "session")).value
    assert session["modes"]["current"] == "code"
    assert session["commands"] == [{"name": "web", "description": "Search"}]
    assert session["agent"] == {"name": "odd", "version": "1"}
    usage = (await drive.house.slice(engine, "usage")).value
    assert (usage["context_used"], usage["context_size"], usage["cost_usd"]) == (10, 100, 0.25)
    assert await drive.said(engine, "acp.update") == [
        {"kind": "tea_ready", "update": {"sessionUpdate": "tea_ready", "sugar": 2}},
        {
            "kind": "agent_message_chunk",
            "session": "another-session",
            "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "psst"}},
        },
    ]
    assert await drive.said(engine, "acp.notification") == [
        {"method": "_vendor/thing", "params": {"a": 1}},
        {"method": "$/progress", "params": {}},
    ]
    assert run.result["text"] == ""


async def test_content_blocks_are_passed_on_where_the_agent_can_take_them(drive: Any, odd: Odd, told: Told) -> None:
    link = {"type": "resource_link", "uri": "file:///x", "name": "x"}
    image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
    engine = await drive.spawn("acp", odd("serve(lambda params: None)"))
    assert (await drive.run(engine, [{"type": "text", "text": "see"}, link])).status == "completed"
    assert told("session/prompt")[0]["params"]["prompt"] == [{"type": "text", "text": "see"}, link]
    run = await drive.run(engine, [image])
    assert run.error == {"slug": "unsupported-content", "detail": "The agent takes no image in a prompt."}
    can = {"agentCapabilities": {"promptCapabilities": {"image": True}}}
    able = await drive.spawn("acp", odd(f"serve(lambda params: None, initialize={can})"))
    assert (await drive.run(able, [image])).status == "completed"


async def test_signals_set_modes_models_and_options(drive: Any, odd: Odd, told: Told) -> None:
    script = """
    OPTIONS = [{"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": "small",
                "options": [{"group": "g", "name": "G", "options": [{"value": "small", "name": "S"}, {"value": "big", "name": "B"}]}]},
               {"id": "web", "name": "Web", "type": "boolean", "currentValue": False}]
    def set_option(params):
        for option in OPTIONS:
            if option["id"] == params["configId"]: option["currentValue"] = params["value"]
        return {"configOptions": OPTIONS}
    serve(lambda params: None, new={"configOptions": OPTIONS, "modes": {"currentModeId": "ask", "availableModes": [{"id": "ask"}, {"id": "code"}]}},
          on={"session/set_config_option": set_option, "session/set_mode": lambda params: {}})
    """
    engine = await drive.spawn("acp", odd(script, model="big", mode="code"))

    async def signal(name: str, payload: Any = None) -> Any:
        _, done = await drive.house.command(engine, Signal(name=name, payload=payload), wait_s=10)
        return done.result

    session = (await drive.house.slice(engine, "session")).value
    assert session["modes"]["current"] == "code"
    assert [option["value"] for option in session["options"]] == ["big", False]
    assert await signal("set_model", "small") == {"ok": True}
    assert await signal("set_option", {"id": "web", "value": True}) == {"ok": True}
    assert told("session/set_config_option")[-1]["params"]["type"] == "boolean"
    session = (await drive.house.slice(engine, "session")).value
    assert [option["value"] for option in session["options"]] == ["small", True]
    refused = await signal("set_mode", "dance")
    assert refused == {"ok": False, "error": "the agent has no mode 'dance'; there is 'ask', 'code'"}
    assert (await signal("set_model", "huge"))["ok"] is False
    assert (await signal("list_sessions"))["error"] == "the agent does not list its sessions"
    assert (await signal("dance", [1]))["error"] == "there is no signal 'dance' with such a payload"
    assert (await drive.run(engine, "x")).status == "completed"


async def test_models_of_an_older_agent_are_set_by_their_own_method(drive: Any, odd: Odd, told: Told) -> None:
    models = {"currentModelId": "a", "availableModels": [{"modelId": "a", "name": "A"}, {"modelId": "b", "name": "B"}]}
    script = f"serve(lambda params: None, new={{'models': {models}}}, on={{'session/set_model': lambda params: {{}}}})"
    engine = await drive.spawn("acp", odd(script, model="b"))
    assert told("session/set_model")[0]["params"] == {"sessionId": "s-1", "modelId": "b"}
    assert (await drive.house.slice(engine, "session")).value["models"]["current"] == "b"


async def test_sessions_are_listed_loaded_closed_and_begun_anew(drive: Any, odd: Odd, told: Told) -> None:
    script = """
    numbers = iter(range(1, 9))
    def listed(params):
        if "cursor" not in params: return {"sessions": [{"sessionId": "old", "cwd": params["cwd"]}], "nextCursor": "2"}
        return {"sessions": [{"sessionId": "older", "cwd": params["cwd"]}]}
    def loaded(params):
        for n in range(3): update("agent_message_chunk", params["sessionId"], content={"type": "text", "text": "before"})
        return {}
    serve(lambda params: [update("agent_message_chunk", params["sessionId"], content={"type": "text", "text": params["sessionId"]})] and None,
          initialize={"agentCapabilities": {"loadSession": True, "sessionCapabilities": {"list": {}, "close": {}}}},
          on={"session/new": lambda params: {"sessionId": f"n-{next(numbers)}"}, "session/close": lambda params: {},
              "session/list": listed, "session/load": loaded})
    """
    engine = await drive.spawn("acp", odd(script))

    async def signal(name: str, payload: Any = None) -> Any:
        _, done = await drive.house.command(engine, Signal(name=name, payload=payload), wait_s=10)
        return done.result

    assert [s["sessionId"] for s in (await signal("list_sessions"))["sessions"]] == ["old", "older"]
    assert (await drive.run(engine, "x")).result["text"] == "n-1"
    assert await signal("new_session") == {"ok": True}
    assert told("session/close")[0]["params"] == {"sessionId": "n-1"}
    assert (await drive.run(engine, "x")).result["text"] == "n-2"
    assert await signal("load_session", "old") == {"ok": True}
    assert (await drive.run(engine, "x")).result["text"] == "old"
    assert (await drive.said(engine, "acp.session"))[-1] == {"how": "loaded", "id": "old", "replayed": 3}
    texts = [row["text"] for row in await drive.said(engine, "acp.message")]
    assert texts == ["n-1", "n-2", "old"]  # what was told over again was not told twice


async def test_mcp_servers_reach_the_agent_with_their_secrets(
    drive: Any, odd: Odd, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [
        {"name": "files", "command": "mcp-files", "args": ["-v"], "env": {"MODE": "ro"}},
        {"type": "http", "name": "web", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer x"}},
    ]
    can = {"agentCapabilities": {"mcpCapabilities": {"http": True}}}
    engine = await drive.spawn("acp", odd(f"serve(lambda params: None, initialize={can})", mcp_servers=servers))
    assert told("session/new")[0]["params"]["mcpServers"] == [
        {"name": "files", "command": "mcp-files", "args": ["-v"], "env": [{"name": "MODE", "value": "ro"}]},
        {
            "type": "http",
            "name": "web",
            "url": "http://127.0.0.1:1/mcp",
            "headers": [{"name": "Authorization", "value": "Bearer x"}],
        },
    ]
    shown = (await drive.house.get(engine)).config["mcp_servers"]
    assert (shown[0]["env"], shown[1]["headers"]) == ({"MODE": "********"}, {"Authorization": "********"})
