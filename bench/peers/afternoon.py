"""An afternoon's server: FastAPI on uvicorn, in memory or with one SQLite commit for each command; sse-starlette."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from bench.peers.pace import TICK_S, Pace, event


class Command(BaseModel):
    """What is posted."""

    type: str
    name: str
    payload: Any = None


Queue: TypeAlias = "asyncio.Queue[tuple[int, str]]"
app = FastAPI()
readers: set[Queue] = set()
accepted: list[Command] = []
rate, directory = (float(sys.argv[1]), sys.argv[2]) if __name__ == "__main__" else (0.0, "")
db = apsw.Connection(str(Path(directory) / "afternoon.db")) if directory else None
if db is not None:
    db.pragma("journal_mode", "WAL")
    db.pragma("synchronous", "FULL")
    db.execute("CREATE TABLE commands (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")


@app.post("/commands", status_code=202)
async def command(body: Command) -> dict[str, str]:
    if db is None:
        accepted.append(body)
    else:
        db.execute("INSERT INTO commands (body) VALUES (?)", (body.model_dump_json(),))
    return {"command_id": "cmd_1", "state": "accepted"}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "live"}


@app.get("/events")
async def events() -> EventSourceResponse:
    queue: Queue = asyncio.Queue(10_000)

    async def follow() -> AsyncIterator[dict[str, Any]]:
        readers.add(queue)
        try:
            while True:
                number, data = await queue.get()
                yield {"id": str(number), "event": "ticker.tick", "data": data}
        finally:
            readers.discard(queue)

    return EventSourceResponse(follow())


async def publish() -> None:
    pace = Pace(rate)
    while True:
        await asyncio.sleep(TICK_S)
        for number in pace.due():
            one = (number, event(number))
            for queue in readers:
                if not queue.full():
                    queue.put_nowait(one)


async def main() -> None:
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(2048)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    publisher = asyncio.create_task(publish()) if rate else None
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    await server.serve(sockets=[sock])
    if publisher is not None:
        publisher.cancel()


if __name__ == "__main__":
    logging.disable()  # asyncio tells of each reader that leaves
    asyncio.run(main())
