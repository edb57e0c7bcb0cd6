"""Everything that happened, as one stream of server-sent events has brought it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from examples.demo.saying import say
from supervisor import Subscription

__all__ = ["Watcher"]

Event = dict[str, Any]


@dataclass
class Watcher:
    """Everything that one stream of all events has brought, in order; it survives the daemon."""

    events: list[Event] = field(default_factory=list)
    output: dict[str, str] = field(default_factory=dict)
    shown: str = ""
    news: trio.Event = field(default_factory=trio.Event)

    async def watch(self, stream: Subscription) -> None:
        while True:
            for frame in await stream.receive():
                if frame.event == "server.closing":
                    continue
                event = json.loads(frame.data)
                if frame.id is not None:
                    self.events.append(event)
                elif frame.event == "run.output":
                    self._print(event)
            self.news.set()
            self.news = trio.Event()

    def _print(self, event: Event) -> None:
        run, text = event["run_id"], event["data"]["text"]
        self.output[run] = self.output.get(run, "") + text
        if event["engine_id"] == self.shown:
            for line in text.splitlines():
                say(f"  {self.shown} | {line}")

    async def until(self, wanted: Callable[[], Any]) -> Any:
        """What `wanted` gives as soon as it gives something; it is asked whenever something has happened."""
        while not (found := wanted()):
            await self.news.wait()
        return found

    async def saw(self, type: str, **members: Any) -> Event:
        """The first event of this type whose envelope or data has these members."""

        def matching() -> Event | None:
            for event in self.events:
                if event["type"] == type and members.items() <= {**event["data"], **event}.items():
                    return event
            return None

        found: Event = await self.until(matching)
        return found

    def steps(self, run: str) -> list[int]:
        """The steps of a probe's run, as its slice `progress` showed them."""
        found = []
        for event in self.events:
            if event["type"] == "state.patched" and event.get("run_id") == run:
                for change in event["data"]["patch"]:
                    value = change.get("value")
                    found += [value["step"]] if change["path"] == "" else [value] if change["path"] == "/step" else []
        return found
