"""Stock quart-trio on stock hypercorn: a constant answer, and one write for each event."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, request
from quart_trio import QuartTrio

from bench.peers.pace import TICK_S, Pace, event

app = QuartTrio(__name__)
readers: set[trio.MemorySendChannel[bytes]] = set()


@app.post("/commands")
async def command() -> tuple[dict[str, Any], int]:
    await request.get_json()
    return {"command_id": "cmd_1", "state": "accepted"}, 202


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "live"}


@app.get("/events")
async def events() -> Response:
    send, receive = trio.open_memory_channel[bytes](10_000)
    readers.add(send)

    async def follow() -> AsyncIterator[bytes]:
        try:
            async for frame in receive:
                yield frame
        finally:
            readers.discard(send)

    response = Response(follow(), content_type="text/event-stream")
    response.timeout = None
    return response


async def publish(per_second: float) -> None:
    pace = Pace(per_second)
    while True:
        await trio.sleep(TICK_S)
        for number in pace.due():
            frame = f"id: {number}\nevent: ticker.tick\ndata: {event(number)}\n\n".encode()
            for reader in list(readers):
                try:
                    reader.send_nowait(frame)
                except (trio.WouldBlock, trio.BrokenResourceError):
                    continue


async def main(per_second: float) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        if per_second:
            nursery.start_soon(publish, per_second)
        (address,) = await nursery.start(serve, app, config)
        print(json.dumps({"port": int(address.rpartition(":")[2])}), flush=True)


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]))
