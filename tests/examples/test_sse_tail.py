"""examples/sse_tail.py: one tail, two daemons, each event once."""

from pathlib import Path
from typing import Any

import trio

from examples.demo.daemon import daemon_in
from examples.sse_tail import tail
from supervisor import NewEngine
from web.client import open_remote


async def test_the_tail_goes_on_after_kill_9_and_shows_each_event_once(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    started = {1: trio.Event(), 2: trio.Event()}

    def show(event: dict[str, Any]) -> None:
        seen.append(event)
        if event["type"] == "engine.started":
            started[event["incarnation"]].set()

    with trio.fail_after(60):
        async with daemon_in(tmp_path / "state") as daemon, trio.open_nursery() as nursery:
            await daemon.start()
            nursery.start_soon(lambda: tail(daemon.url, daemon.key, (), show, after="0"))
            async with open_remote(daemon.url, api_key=daemon.key) as house:
                await house.spawn(NewEngine(kind="probe", id="p"))
            await started[1].wait()
            await daemon.kill()
            await daemon.start()
            await started[2].wait()
            nursery.cancel_scope.cancel()
    own = [event["engine_seq"] for event in seen]  # dense, while audit rows have a share of `seq`
    assert own == list(range(1, len(own) + 1))
