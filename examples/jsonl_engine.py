"""An engine as a program of its own: the `process` kind's JSON lines, with nothing but Python's standard library.

    enginehouse spawn process --config '{"argv": ["python3", "examples/jsonl_engine.py"]}'

A run's input is `{"count": 3, "ask": false, "each_s": 0.001}`: it counts, shows how far it is, and may ask a human
whether to go on. It stands still when it is told to, and after a crash goes on where it was (spawn it with
`on_interrupt: resume`). The language is told in docs/engine-protocol.md.
"""

import json
import queue
import sys
import threading
import time
from typing import Any

BEAT_S = 1.0
Heard = queue.Queue[dict[str, Any]]
saying = threading.Lock()


def say(type: str, **members: Any) -> None:
    """Write one message: one line, at once."""
    with saying:
        print(json.dumps({"type": type, **members}), flush=True)


def main() -> None:
    heard: Heard = queue.Queue()
    threading.Thread(target=listen, args=(heard,), daemon=True).start()
    say("hello", protocol=1, ready=False, heartbeat_s=BEAT_S, pause=True, resume=True)
    threading.Thread(target=beat, daemon=True).start()
    say("ready")  # a program that has to load something says this when it has
    while True:
        match heard.get():
            case {"type": "run", "id": id, "input": input} as run:
                work(id, input, snapshot_of(run), heard)
            case {"type": "pause", "number": number}:
                say("paused", number=number)
            case {"type": "signal", "name": name, "payload": payload}:
                say("event", name="signalled", data={"name": name, "payload": payload})
            case {"type": "stop"}:
                return


def listen(heard: Heard) -> None:
    """Standard input is read all the time, so that a cancellation is heard during the work."""
    for line in sys.stdin:
        heard.put(json.loads(line))
    heard.put({"type": "stop"})


def beat() -> None:
    while True:
        time.sleep(BEAT_S)
        say("heartbeat")


def snapshot_of(run: dict[str, Any]) -> dict[str, Any]:
    """Where a run goes on that an earlier life of ours had in hand; empty for one that begins."""
    kept = run["snapshot"] if run.get("resumed") else None
    return kept if isinstance(kept, dict) and kept.get("run") == run["id"] else {}


def work(id: str, input: Any, kept: dict[str, Any], heard: Heard) -> None:
    """One run, to its one end."""
    if not isinstance(input, dict) or not isinstance(input.get("count"), int):
        say("error", id=id, slug="bad-input", detail='Give {"count": <number>}.')
        return
    done = int(kept.get("done", 0))
    if done:
        say("log", id=id, level="info", text=f"Going on after {done}.")
    waiting, paused = bool(input.get("ask")) and not done, False
    if waiting:
        options = [
            {"id": "yes", "kind": "allow_once", "label": "Yes"},
            {"id": "no", "kind": "reject_once", "label": "No"},
        ]
        say("ask", id=id, ask="go", kind="approval", title="Shall I count?", options=options)
    while paused or waiting or done < input["count"]:
        try:
            message = heard.get(timeout=None if paused or waiting else input.get("each_s", 0.001))
        except queue.Empty:
            done += 1
            say("output", id=id, text=f"{done}\n")
            say("update", id=id, slice="counted", value=done)
            say("snapshot", id=id, value={"run": id, "done": done})
            say("usage", id=id, amounts={"steps": 1})
            continue
        match message:
            case {"type": "pause", "number": number}:
                paused = True
                say("paused", number=number)
            case {"type": "resume"}:
                paused = False
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
