"""Ours: a whole house on SQLite behind the guard, the API and the server, as the daemon has them; no rate limits.

Beside the API it answers `POST /constant`, which reads the body and accepts nothing: what our own HTTP costs alone.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import trio

from actors.context import RunContext
from actors.engine import Engine, RunInput
from bench.peers.pace import TICK_S, Pace
from protocol.bodies import NewEngine, NewPool, NewRun
from protocol.specs import PauseMode
from supervisor import Caller, EmbeddedHouse, SqliteStore, open_supervisor
from web.app import Api, create_app
from web.asgi import Receive, Scope, Send
from web.auth import Identity, SigningKeys
from web.daemon import GC_THRESHOLDS
from web.guard import Guard, respond
from web.problems import Answer
from web.server import serve
from web.sockets import bind_tcp

ADMIN = "a-key-of-the-benches-that-is-long-enough"
ENGINES = 100
CONSTANT = Answer(202, ((b"content-type", b"application/json"), (b"content-length", b"2")), b"{}")


class Ticker(Engine):
    """Emits so many events per second, for as long as it runs."""

    kind = "ticker"
    emits = ("ticker.tick",)
    Input: ClassVar[Any] = float
    pause_mode = PauseMode.SOFT

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        pace = Pace(run.input)
        while True:
            await ctx.sleep(TICK_S)
            for _ in pace.due():
                await ctx.emit("ticker.tick", {"t": time.time(), "text": "x" * 100})

    async def on_signal(self, ctx: Any, name: str, payload: Any) -> None:
        """Commands of the benches end here."""


class NoTable:
    """Nobody but the admin key's holder."""

    async def load(self) -> dict[str, Any]:
        return {}

    async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None:
        raise NotImplementedError

    async def remove(self, id: str, caller: Caller | None = None) -> None:
        raise NotImplementedError


class WithConstant:
    """The API, and one route beside it."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/constant":
            while (await receive()).get("more_body"):
                pass
            await respond(send, CONSTANT)
        else:
            await self._api(scope, receive, send)


async def fill(house: EmbeddedHouse, per_second: float, step_s: float) -> None:
    """A hundred engines that work every `step_s` (0: idle), and one that ticks."""
    await house.create_pool(NewPool(id="bench", max_engines=10**5))
    for number in range(ENGINES):
        await house.spawn(NewEngine(kind="ticker" if not step_s else "probe", id=f"e{number}", pool="bench"))
        if step_s:
            await house.submit(f"e{number}", NewRun(input={"steps": 1_000_000, "step_s": step_s}))
    await house.spawn(NewEngine(kind="ticker", id="ticker", pool="bench"))
    if per_second:
        await house.submit("ticker", NewRun(input=per_second))


async def main(per_second: float, directory: str, step_s: float) -> None:
    identity = Identity(lambda _: NoTable(), admin=ADMIN, signing=SigningKeys.fresh(), wall=time.time)
    stop = trio.Event()

    async def listen(signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            stop.set()

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, signals)
            store = SqliteStore(Path(directory) / "journal.db")
            async with open_supervisor(store=store, kinds=[Ticker], directory=directory, grace_s=1) as house:
                await fill(house, per_second, step_s)
                api = create_app(house, identity=identity)
                await serve(
                    Guard(WithConstant(api)), bind_tcp("127.0.0.1", 0), shutdown=stop.wait, closing=api.close_streams,
                    grace_s=1, on_bound=_ready,
                )  # fmt: skip
            nursery.cancel_scope.cancel()


def _ready(urls: list[str]) -> None:
    gc.freeze()  # as the daemon does
    print(json.dumps({"port": int(urls[0].rpartition(":")[2])}), flush=True)


if __name__ == "__main__":
    gc.set_threshold(*GC_THRESHOLDS)
    trio.run(main, float(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
