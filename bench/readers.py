"""The client of the SSE rows: many readers of one stream, and at will one that does not read.

Deliveries are counted by their data lines; the age of an event is looked at in one reader of twenty, from the time that
the event itself carries.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time

import trio

from bench.measure import percentile, rss_bytes

_DATA = b"\ndata: "
_TIME = re.compile(rb'"t": ?([0-9.]+)')
LOOKED_AT = 20


class Tally:
    """What all readers have seen."""

    def __init__(self) -> None:
        self.count = 0
        self.ages: list[float] = []
        self.counting = False


async def _read(port: int, request: bytes, tally: Tally, connected: trio.Event, look: bool) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        kept = bytes(await stream.receive_some(65536))
        if not kept.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(kept[:100].decode("latin-1"))
        connected.set()
        async for data in stream:
            if tally.counting:
                tally.count += (kept + data).count(_DATA)
                if look:
                    now = time.time()
                    tally.ages += [now - float(found) for found in _TIME.findall(data)]
            kept = bytes(data[-len(_DATA) + 1 :])


async def main(
    port: int, pid: int, request: str, readers: int, seconds: float, warm_s: float = 1.0, stalled: int = 0
) -> dict[str, float]:
    tally, before = Tally(), rss_bytes(pid)
    sent = request.encode()
    held: list[socket.socket] = []
    async with trio.open_nursery() as nursery:
        for number in range(readers):
            connected = trio.Event()
            nursery.start_soon(_read, port, sent, tally, connected, number % LOOKED_AT == 0)
            await connected.wait()
        for _ in range(stalled):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(sent)
            held.append(sock)
        await trio.sleep(warm_s)
        settled = rss_bytes(pid)
        tally.counting, since = True, time.monotonic()
        await trio.sleep(seconds)
        spent, count = time.monotonic() - since, tally.count
        after = rss_bytes(pid)
        nursery.cancel_scope.cancel()
    for sock in held:
        sock.close()
    ages = tally.ages or [0.0]
    return {
        "rate": count / spent,
        "p50_s": percentile(ages, 0.5),
        "p99_s": percentile(ages, 0.99),
        "bytes_each": (settled - before) / readers,
        "grown_bytes": after - settled,
    }


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(json.dumps(trio.run(lambda: main(**options))))
