"""An engine as it was written before a program could announce anything: such programs go on working."""

import json
import queue
import sys
import threading
from typing import Any


def say(type: str, **members: Any) -> None:
    """Write one message: one line, at once."""
    print(json.dumps({"type": type, **members}), flush=True)  # noqa: T201 - this is what it is for


def main() -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=listen, args=(heard,), daemon=True).start()
    say("hello", protocol=1)
    while True:
        match heard.get():
            case {"type": "run", "id": id, "input": input}:
                work(id, input, heard)
            case {"type": "signal", "name": name, "payload": payload}:
                say("event", name="signalled", data={"name": name, "payload": payload})
            case {"type": "stop"}:
                return


def listen(heard: "queue.Queue[dict[str, Any]]") -> None:
    """Standard input is read all the time, so that a cancellation is heard during the work."""
    for line in sys.stdin:
        heard.put(json.loads(line))
    heard.put({"type": "stop"})


def work(id: str, input: Any, heard: "queue.Queue[dict[str, Any]]") -> None:
    if not isinstance(input, dict) or not isinstance(input.get("count"), int):
        say("error", id=id, slug="bad-input", detail='Give {"count": <number>}.')
        return
    if input.get("ask"):
        options = [
            {"id": "yes", "kind": "allow_once", "label": "Yes"},
            {"id": "no", "kind": "reject_once", "label": "No"},
        ]
        say("ask", id=id, ask="go", kind="approval", title="Shall I count?", options=options)
    else:
        heard.put({"type": "answer", "option": "yes"})
    done, waiting = 0, True
    while waiting or done < input["count"]:
        try:
            message = heard.get(timeout=None if waiting else input.get("each_s", 0.001))
        except queue.Empty:
            done += 1
            say("output", id=id, text=f"{done}\n")
            say("update", id=id, slice="counted", value=done)
            continue
        match message:
            case {"type": "answer", "option": "no"}:
                say("error", id=id, slug="refused", detail="A human said no.")
                return
            case {"type": "answer"}:
                waiting = False
            case {"type": "cancel", "id": cancelled} if cancelled == id:
                say("error", id=id, slug="cancelled", detail=f"Cancelled at {done}.")
                return
            case {"type": "stop"}:
                say("error", id=id, slug="stopped", detail=f"Stopped at {done}.")
                sys.exit()
    say("result", id=id, result={"counted": done})


if __name__ == "__main__":
    main()
