"""Slowloris in three directions: who sends or reads too slowly loses the connection, and nobody else notices."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.attack.target import Target, ended, in_parallel, started
from tests.attack.wire import Line, answer_in, check
from web.limits import Limits

LIMITS: Final = Limits()
PATIENCE_S: Final = 6.0
"""How long the daemon of the small tier waits for a reader, who has 30 s otherwise."""

LATE_S: Final = 20.0
"""What a loaded machine may add to a deadline. The deadline itself is checked from the other side."""

HEALTH_S: Final = 5.0
"""In which 99 of 100 others are answered meanwhile, on any machine; what was measured is in docs/security.md."""

HEAD: Final = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
BODY: Final = (
    b"POST /api/v1/engines HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
)
READ: Final = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 200


@pytest.fixture
def slowed(tmp_path: Path, patience_s: float) -> Iterator[Target]:
    """A daemon of its own, for no test may share what 1,000 sockets do to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    target = started(tmp_path / "state", env={"ENGINEHOUSE_LIMITS__SEND_S": str(patience_s)})
    yield target
    ended(target)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def drip(target: Target, beginning: bytes, at_least_s: float, at_most_s: float) -> None:
    """Send a byte a second for ever; the house ends it with a 408, and in time."""
    began = trio.current_time()
    line = await Line.open(target.port)
    try:
        await line.send(beginning)

        async def keep_on() -> None:
            while not line.closed:
                await trio.sleep(1)
                await line.send(b"x")

        with trio.fail_after(at_most_s + LATE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_on)
                while await line.more():
                    pass
                nursery.cancel_scope.cancel()
        took_s = trio.current_time() - began
        found = answer_in(line.received)
        assert found is not None, line.received
        check(found[0])
        assert (found[0].status, found[0].header("connection"), found[1]) == (408, "close", b"")
        assert took_s > at_least_s - 0.1, "cut before its time"
    finally:
        line.close()


def held(target: Target) -> set[int]:
    """The ports of clients whose connections the daemon holds (proc_net(5): what is closed has no inode left)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{target.port:04X}"
    return {int(row[2].rpartition(":")[2], 16) for row in rows if row[1].endswith(here) and row[9] != "0"}


async def stall(target: Target, readers: int, patience_s: float) -> None:
    """So many ask for much and read nothing, until the house has given up on each of them."""
    streams: list[trio.SocketStream] = []

    async def ask(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(READ)

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            stream = await trio.open_tcp_stream("127.0.0.1", target.port)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
            streams.append(stream)
            nursery.start_soon(ask, stream)
        ports = {stream.socket.getsockname()[1] for stream in streams}
        await trio.sleep(patience_s / 2)
        assert len(ports & held(target)) > readers * 0.9, "they were cut before their time"
        with trio.move_on_after(patience_s / 2 + LATE_S):
            while ports & held(target):  # noqa: ASYNC110 - the kernel tells nobody of another's sockets
                await trio.sleep(0.5)
        left = len(ports & held(target))
        assert left == 0, f"{left} of {readers} are still served"
        nursery.cancel_scope.cancel()
    for stream in streams:
        stream.socket.close()


async def look(target: Target, took_s: list[float]) -> None:
    """Ask for its health, over and over, as a load balancer does."""
    while True:
        began = trio.current_time()
        assert (await target.ask("GET", "/health/live", key=None)).status == 200
        took_s.append(trio.current_time() - began)
        await trio.sleep(0.05)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sockets, patience_s",
    [
        pytest.param(200, PATIENCE_S, id="small"),
        pytest.param(1000, LIMITS.send_s, id="large", marks=pytest.mark.torture),
    ],
)
async def test_slow_clients_are_cut_and_nobody_else_notices(slowed: Target, sockets: int, patience_s: float) -> None:
    took_s: list[float] = []
    before = slowed.connections()
    header = partial(drip, slowed, HEAD, LIMITS.header_s, LIMITS.header_s)
    body = partial(drip, slowed, BODY + f"X-API-Key: {slowed.admin}\r\n\r\n{{".encode(), LIMITS.body_s, LIMITS.body_s)
    read = partial(stall, slowed, sockets, patience_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, slowed, took_s)
        await in_parallel(3 * sockets, [read, *[header] * sockets, *[body] * sockets])
        nursery.cancel_scope.cancel()
    await slowed.settle(before)
    assert len(took_s) > 20
    p99_s = statistics.quantiles(took_s, n=100)[98]
    print(  # noqa: T201 - the figure of the large tier
        f"health: p50 {statistics.median(took_s) * 1000:.1f} ms, p99 {p99_s * 1000:.1f} ms, {len(took_s)} times"
    )
    assert p99_s < HEALTH_S
    await slowed.well()
