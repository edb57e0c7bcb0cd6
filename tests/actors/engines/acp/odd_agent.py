"""An agent of the tests' own that does what a test says: standard library alone, and quick to start.

    def prompt(said):
        say("hello")
        return "end_turn"

    serve(prompt)

What it is told to remember is in files of its directory, so that it can be resumed after it was killed.
"""

import json
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

SESSION = "s-1"
waiting: deque[dict[str, Any]] = deque()
state = {"cancelled": False}
ids = iter(range(1, 10**6))


def send(**members: Any) -> None:
    raw(json.dumps({"jsonrpc": "2.0", **members}) + "\n")


def raw(text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    while data:
        data = data[os.write(1, data) :]


def silence() -> NoReturn:
    """Hang."""
    while True:
        signal.pause()


def until(name: str) -> None:
    """Go on when the test has made this file."""
    while not Path(name).exists():
        select.select([], [], [], 0.01)


def heard() -> dict[str, Any]:
    """The next message; the end of the input is the end of the agent."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    message: dict[str, Any] = json.loads(line)
    return message


def noted(message: dict[str, Any]) -> bool:
    """Whether it was a notification that is only noted."""
    if message.get("method") == "session/cancel":
        state["cancelled"] = True
    with Path("heard.jsonl").open("a") as file:
        file.write(json.dumps(message) + "\n")
    return "method" in message and "id" not in message


def update(kind: str, session: str = SESSION, /, **members: Any) -> None:
    params = {"sessionId": session, "update": {"sessionUpdate": kind, **members}}
    send(method="session/update", params=params)


def say(text: str, kind: str = "agent_message_chunk", /, **more: Any) -> None:
    update(kind, content={"type": "text", "text": text}, **more)


def call(id: str, /, **members: Any) -> None:
    update("tool_call", toolCallId=id, **members)


def changed(id: str, /, **members: Any) -> None:
    update("tool_call_update", toolCallId=id, **members)


def begin(method: str, **params: Any) -> int:
    """Send a request; `end` waits for its answer."""
    number = next(ids)
    send(id=number, method=method, params=params)
    return number


def end(number: int) -> Any:
    """The result, or the whole error; what else comes meanwhile waits."""
    while True:
        for message in list(waiting):
            if message.get("id") == number and "method" not in message:
                waiting.remove(message)
                return message.get("result", message.get("error"))
        message = heard()
        if not noted(message):
            waiting.append(message)


def ask(method: str, **params: Any) -> Any:
    return end(begin(method, sessionId=SESSION, **params))


def permission(id: str = "c1", kinds: tuple[str, ...] = ("allow_once", "reject_once"), **members: Any) -> Any:
    """What was chosen, of options whose ids say their kinds."""
    options = [{"optionId": f"o-{kind}", "kind": kind, "name": kind} for kind in kinds]
    outcome: Any = ask("session/request_permission", toolCall={"toolCallId": id, **members}, options=options)
    return outcome.get("outcome", outcome)


def until_cancelled() -> None:
    while not state["cancelled"]:
        message = heard()
        if not noted(message):
            waiting.append(message)


def serve(
    prompt: Callable[[dict[str, Any]], Any],
    *,
    initialize: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    on: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
) -> None:
    """Be an agent until the end of the input.

    `prompt`: gives a stop reason or a whole result; `initialize`, `new`: members over the usual; `on`: what else is
    answered, by method. What these raise as Error is the answer.
    """
    answers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "initialize": lambda params: {
            "protocolVersion": 1,
            "agentInfo": {"name": "odd", "version": "1"},
            **(initialize or {}),
        },
        "session/new": lambda params: {"sessionId": SESSION, **(new or {})},
        "session/prompt": prompt,
        **(on or {}),
    }
    while True:
        message = waiting.popleft() if waiting else heard()
        if noted(message) or "method" not in message:
            continue
        method = message["method"]
        if method == "session/prompt":
            state["cancelled"] = False
        if method not in answers:
            send(id=message["id"], error={"code": -32601, "message": "Method not found"})
            continue
        try:
            result = answers[method](message.get("params", {}))
        except Error as error:
            send(id=message["id"], error=error.args[0])
        else:
            if method == "session/prompt" and isinstance(result, str | None):
                result = {"stopReason": result or ("cancelled" if state["cancelled"] else "end_turn")}
            send(id=message["id"], result=result)


class Error(Exception):
    """An error for an answer: `Error({"code": ..., "message": ...})`."""
