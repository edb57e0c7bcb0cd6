"""Follow the events of a running daemon over server-sent events, for as long as you like.

    .venv/bin/python -m examples.sse_tail [first word of the types, such as run ...]

It finds the daemon and the key of this machine as the command line does. The stream survives its connections: when the
daemon is restarted, or killed, it goes on behind the last event that was seen, and shows each event once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import trio

from protocol.errors import EnginehouseError
from supervisor import Filter
from web.client import open_remote
from web.client.locate import locate

Show = Callable[[dict[str, Any]], object]


async def tail(url: str, key: str | None, types: tuple[str, ...], show: Show, *, after: str | None = None) -> None:
    """Show every event from now on, or from after an event id, as its envelope; until cancelled."""
    async with open_remote(url, api_key=key) as house, house.events(Filter(types=types), after=after) as stream:
        while True:
            for frame in await stream.receive():
                if frame.event != "server.closing":  # the next connection goes on where this one ends
                    show({"type": frame.event, **json.loads(frame.data)})


def line(event: dict[str, Any]) -> None:
    number, engine = event.get("seq", "-"), event.get("engine_id", "-")
    print(f"{number:>6} {event.get('time', '')} {engine} {event['type']} {event.get('data', event)}", flush=True)


if __name__ == "__main__":
    place = locate(os.environ)
    print(f"following {place.url}, Ctrl-C ends it", file=sys.stderr)
    try:
        trio.run(lambda: tail(place.url, place.api_key, tuple(sys.argv[1:]), line))
    except KeyboardInterrupt:
        pass
    except EnginehouseError as error:
        sys.exit(f"error: {error.detail}")
