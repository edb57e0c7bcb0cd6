"""The client of the HTTP rows: raw sockets, kept alive, as little work for each answer as can be."""

from __future__ import annotations

import json
import sys
from itertools import cycle, islice

import trio

from bench.measure import Stopwatch, percentile

__all__ = ["get", "post"]

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


def get(path: str, *headers: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""])


def post(path: str, body: str, *headers: str) -> str:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "", body])


async def _answer(stream: trio.SocketStream, buffer: bytearray) -> int:
    """Read one answer off the stream; its status."""
    while (end := buffer.find(_END)) < 0:
        await _more(stream, buffer)
    head = bytes(buffer[:end]).lower()
    at = head.index(_LENGTH) + len(_LENGTH)
    whole = end + len(_END) + int(head[at : (head.find(b"\r", at) + 1 or len(head) + 1) - 1])
    while len(buffer) < whole:
        await _more(stream, buffer)
    del buffer[:whole]
    return int(head[9:12])


async def _more(stream: trio.SocketStream, buffer: bytearray) -> None:
    data = await stream.receive_some(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    buffer += data


async def main(port: int, requests: list[str], seconds: float, connections: int) -> dict[str, float]:
    took: list[float] = []
    whole = Stopwatch()

    async def client(first: int) -> None:
        stream, buffer = await trio.open_tcp_stream("127.0.0.1", port), bytearray()
        mine = cycle([request.encode() for request in islice(cycle(requests), first, first + len(requests))])
        async with stream:
            while whole() < seconds:
                watch = Stopwatch()
                await stream.send_all(next(mine))
                status = await _answer(stream, buffer)
                if status >= 300:
                    raise ConnectionError(f"status {status}")
                took.append(watch())

    async with trio.open_nursery() as nursery:
        for number in range(connections):
            nursery.start_soon(client, number)
    spent = whole()
    return {
        "rate": len(took) / spent,
        "p50_s": percentile(took, 0.5),
        "p95_s": percentile(took, 0.95),
        "p99_s": percentile(took, 0.99),
    }


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(json.dumps(trio.run(main, *(options[name] for name in ("port", "requests", "seconds", "connections")))))
