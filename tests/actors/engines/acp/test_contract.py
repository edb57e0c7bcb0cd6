"""All that we say to an agent, read by the models of the protocol's own Python SDK."""

import json
from collections.abc import Callable
from typing import Any

from acp import schema
from pydantic import BaseModel

from protocol.commands import Signal

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]

MODELS: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeRequest,
    "authenticate": schema.AuthenticateRequest,
    "session/new": schema.NewSessionRequest,
    "session/load": schema.LoadSessionRequest,
    "session/resume": schema.ResumeSessionRequest,
    "session/list": schema.ListSessionsRequest,
    "session/close": schema.CloseSessionRequest,
    "session/prompt": schema.PromptRequest,
    "session/cancel": schema.CancelNotification,
    "session/set_mode": schema.SetSessionModeRequest,
    "session/set_config_option": schema.SetSessionConfigOptionBooleanRequest,
    "$/cancel_request": schema.CancelRequestNotification,
}
ANSWERS: dict[str, type[BaseModel]] = {
    "fs/read_text_file": schema.ReadTextFileResponse,
    "fs/write_text_file": schema.WriteTextFileResponse,
    "terminal/create": schema.CreateTerminalResponse,
    "terminal/output": schema.TerminalOutputResponse,
    "terminal/wait_for_exit": schema.WaitForTerminalExitResponse,
    "terminal/kill": schema.KillTerminalResponse,
    "terminal/release": schema.ReleaseTerminalResponse,
    "session/request_permission": schema.RequestPermissionResponse,
}

SCRIPT = """
HERE = os.getcwd()
def prompt(params):
    answers = {}
    options = [{"optionId": "y", "kind": "allow_once", "name": "Yes"}]
    for method, members in (
        ("fs/write_text_file", {"path": HERE + "/a", "content": "x"}), ("fs/read_text_file", {"path": HERE + "/a"}),
        ("terminal/create", {"command": "true"}), ("terminal/wait_for_exit", {}), ("terminal/output", {}),
        ("terminal/kill", {}), ("terminal/release", {}),
        ("session/request_permission", {"toolCall": {"toolCallId": "c"}, "options": options})):
        if method.startswith("terminal/") and method != "terminal/create":
            members = {"terminalId": answers["terminal/create"]["terminalId"]}
        answers[method] = ask(method, **members)
    say(json.dumps(answers))
    until_cancelled()
CAN = {"loadSession": True, "sessionCapabilities": {"resume": {}, "list": {}, "close": {}},
       "mcpCapabilities": {"http": True}}
WEB = {"id": "web", "name": "Web", "type": "boolean", "currentValue": True}
MODES = {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}]}
serve(prompt, initialize={"agentCapabilities": CAN, "authMethods": [{"id": "key", "name": "Key"}]},
      new={"configOptions": [WEB], "modes": MODES},
      on={"authenticate": lambda params: {}, "session/close": lambda params: {}, "session/load": lambda params: {},
          "session/resume": lambda params: (_ for _ in ()).throw(Error({"code": 1, "message": "no"})),
          "session/list": lambda params: {"sessions": []}, "session/set_mode": lambda params: {},
          "session/set_config_option": lambda params: {"configOptions": [WEB]}})
"""


async def test_every_message_of_ours_is_one_of_the_protocols(drive: Any, odd: Odd, told: Told) -> None:
    servers = [
        {"name": "a", "command": "mcp", "env": {"A": "1"}},
        {"type": "http", "name": "b", "url": "http://127.0.0.1:1", "headers": {"B": "2"}},
    ]
    config = odd(
        SCRIPT, auth="key", mode="ask", options={"web": False}, mcp_servers=servers, permissions=[{"verdict": "allow"}]
    )
    engine = await drive.spawn("acp", config)
    for name in ("list_sessions", "new_session"):
        await drive.house.command(engine, Signal(name=name), wait_s=10)
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(
            engine, [{"type": "text", "text": "go"}, {"type": "resource_link", "uri": "a", "name": "b"}]
        )
    async with drive.seen(engine, "run.cancelled"):
        await drive.house.cancel(run)
    async with drive.seen(engine, "engine.started"):
        await drive.house.restart(engine)  # resume is refused, so it is loaded
    seen = set()
    for message in told():
        if "method" in message and message["method"] in MODELS:
            seen.add(message["method"])
            MODELS[message["method"]].model_validate(message["params"], strict=False)
        elif "method" in message:
            raise AssertionError(message["method"])
    assert seen == {*MODELS} - {"$/cancel_request"}
    [said] = await drive.said(engine, "acp.message")
    for method, answer in json.loads(said["text"]).items():
        ANSWERS[method].model_validate(answer)
