"""A program that conforms to the protocol, but for what its argument names: that is how each check is seen to fail.

A run's input is `{"steps": n}`, of 10 ms each; anything else ends at once.
"""

import json
import os
import select
import signal
import sys
import time
from typing import Any

WRONG = sys.argv[1]
STEP_S, BEAT_S, SMALL = 0.01, 0.1, 1 << 16


def say(type: str, **members: Any) -> None:
    os.write(1, json.dumps({"type": type, **members}).encode() + b"\n")


class Program:
    def __init__(self) -> None:
        self.line = b""
        self.run: dict[str, Any] | None = None
        self.first = ""
        self.done = 0
        self.paused = False
        self.beat_at = time.monotonic()

    def live(self) -> None:
        if WRONG == "hello":
            say("log", text="good morning")
        say("hello", protocol=1, ready=False, heartbeat_s=0.2, pause=True, resume=True)
        if WRONG != "ready":
            say("ready")
        while True:
            working = self.run is not None and not self.paused
            readable, _, _ = select.select([0], [], [], STEP_S if working else BEAT_S)
            if readable:
                self.read()
            elif working:
                self.step()
            if time.monotonic() - self.beat_at >= BEAT_S and WRONG != "heartbeat":
                self.beat_at = time.monotonic()
                say("heartbeat")

    def read(self) -> None:
        data = os.read(0, 1 << 20)
        if not data:
            while WRONG == "eof":
                signal.pause()
            sys.exit()
        if WRONG == "pieces":
            data += b"\n"
        *lines, rest = (self.line + data).split(b"\n")
        self.line = rest
        for line in lines[:1] if WRONG == "together" else lines:
            if line:
                line = line[:SMALL] if WRONG == "large" else line
                self.hear(json.loads(line.decode("ascii" if WRONG == "unicode" else "utf-8")))

    def hear(self, message: dict[str, Any]) -> None:
        busy = self.run is not None
        match message["type"]:
            case "run" if WRONG != "run":
                self.begin(message)
            case "cancel" if WRONG != "cancel" and not (WRONG == "cancel-paused" and self.paused):
                if WRONG == "late-cancel" or (self.run is not None and self.run["id"] == message["id"]):
                    say("error", id=message["id"], slug="cancelled")
                    self.run = None
            case "pause" if busy or WRONG != "pause":
                self.paused = not (busy and WRONG == "pause-in-run")
                say("paused", number=1 if WRONG == "pause-again" else message["number"])
            case "resume":
                self.paused = False
            case "signal" if WRONG == "signal" and busy:
                sys.exit("what was that?")
            case "stop" if WRONG != "stop" and not (WRONG == "stop-in-run" and busy):
                sys.exit()
            case "something-new" if WRONG == "unknown":
                sys.exit("what was that?")

    def begin(self, run: dict[str, Any]) -> None:
        if WRONG == "resume" and run.get("resumed"):
            sys.exit("what was that?")
        self.run, self.first = run, self.first or run["id"]
        self.done = run["snapshot"] if run.get("resumed") else 0

    def step(self) -> None:
        assert self.run is not None
        id, input = self.run["id"], self.run["input"]  # noqa: A001 - the words of the protocol
        if isinstance(input, dict) and self.done < input.get("steps", 0):
            self.done += 1
            say("progress", id=id, data={"done": self.done})
            say("snapshot", id=id, value=self.done)
            return
        if WRONG == "ids":
            say("progress", id=self.first, data={})
        for _ in range(2 if WRONG == "one-end" else 1):
            say("result", id=id, result=self.done)
        if WRONG == "messages":
            os.write(1, b"done!\n")
        self.run = None


if __name__ == "__main__":
    Program().live()
