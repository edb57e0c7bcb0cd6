"""SIGTERM: out within the grace and two seconds, with nothing left and nothing lost."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import trio

from protocol.errors import Unavailable
from supervisor import Caller, NewEngine, NewRun, SqliteStore
from tests.e2e.daemons import Daemon, processes_with, running
from web.client import Retry

GRACE_S = 3.0
MARGIN_S = 2.0


async def stalled_stream(daemon: Daemon) -> trio.SocketStream:
    """A reader that asked for every event and never reads."""
    stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
    request = f"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {daemon.key}\r\n\r\n"
    await stream.send_all(request.encode())
    return stream


async def test_sigterm_with_a_stalled_stream_under_load_ends_in_time_and_loses_nothing(tmp_path: Path) -> None:
    mark = f"mark-{uuid4().hex}"
    acknowledged: list[str] = []
    enough = trio.Event()

    async def submit(daemon: Daemon) -> None:
        async with daemon.client(Retry(attempts=1)) as house:
            for number in range(100_000):
                try:
                    run, _ = await house.submit("probe", NewRun(input="x" * 2000), Caller(key=f"key-{number}"))
                except Unavailable:
                    return
                acknowledged.append(run.id)
                if len(acknowledged) == 100:
                    enough.set()

    async with running(tmp_path / "state", grace_s=GRACE_S) as daemon:
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="probe", id="probe", mailbox_size=100_000))
            for number in range(10):
                config = {
                    "argv": ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
                    "protocol": "none",
                    "ready": {"line": "up"},
                    "env": {"MARK": mark},
                }
                await house.spawn(NewEngine(kind="process", id=f"child-{number}", config=config))
        streams = [await stalled_stream(daemon) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, daemon)
            with trio.fail_after(60):
                await enough.wait()
            with trio.fail_after(GRACE_S + MARGIN_S):
                assert await daemon.stop() == 0
        for stream in streams:
            await stream.aclose()
        assert not processes_with(mark)
        assert not (daemon.state / "daemon.json").exists()
    store = SqliteStore(tmp_path / "state" / "journal.db")
    await store.open()
    for run_id in acknowledged:
        assert await store.get("run", run_id) is not None
    await store.close()


async def test_a_second_daemon_on_the_same_state_gives_the_address_of_the_first(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as daemon:
        second = Daemon(tmp_path / "state")
        second.port = 0
        await second.start()
        assert second.port == daemon.port
        assert await second.wait() == 0
        assert await daemon.stop() == 0


async def test_what_was_up_comes_back_and_what_was_held_stays_held(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="probe", id="up"))
            await house.spawn(NewEngine(kind="probe", id="held"))
            await house.spawn(NewEngine(kind="probe", id="down", start=False))
            await house.pause("held", holder="user:alice", reason="lunch", wait_s=10)
            run, _ = await house.submit("held", NewRun(input="later"))
        assert await daemon.stop() == 0
        await daemon.start()
        async with daemon.client() as house:
            with trio.fail_after(30):
                while (up := await house.get("up")).state != "running":
                    await house.event_page(wait_s=1)
            assert up.incarnation == 2
            held = await house.get("held")
            assert held.state == "paused"
            assert [(hold.holder, hold.reason) for hold in held.holds] == [("user:alice", "lunch")]
            assert (await house.get("down")).state == "stopped"
            assert (await house.run(run.id)).status == "queued"
            await house.resume("held", holder="*")
            with trio.fail_after(30):
                while (done := await house.run(run.id)).status != "completed":
                    await house.event_page(wait_s=1)
            assert done.result["text"] == "later"
        assert await daemon.stop() == 0
