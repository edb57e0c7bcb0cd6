"""Seeded changes to hostile requests: a seed and the corpus give the same bytes on every machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from tests.attack.corpus import CORPUS

TOKENS: Final = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%00", b"%0d%0a", b"..", b"/", b"\\", b"chunked", b"Content-Length: 1",
    b"Transfer-Encoding: chunked", b"Host: a", b"HTTP/1.1", b"HTTP/1.0", b"GET ", b"POST ", b"HEAD ", b"DELETE ", b"0\r\n\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"{", b"}", b'"', b"[" * 100, b"\xff", b"\xed\xa0\x80", b"9" * 50,
    b"Upgrade: h2c\r\n", b"Content-Type: text/plain\r\n", b"Origin: null\r\n", b"?", b"#", b"&", b"=",
]  # fmt: skip

MAX_BYTES: Final = 60_000


def flip(pick: random.Random, data: bytearray) -> None:
    """One bit."""
    data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)


def overwrite(pick: random.Random, data: bytearray) -> None:
    data[pick.randrange(len(data))] = pick.randrange(256)


def delete(pick: random.Random, data: bytearray) -> None:
    start, end = _span(pick, data)
    del data[start:end]


def duplicate(pick: random.Random, data: bytearray) -> None:
    start, end = _span(pick, data)
    data[start:start] = data[start:end] * pick.choice((1, 1, 2, 10))


def swap(pick: random.Random, data: bytearray) -> None:
    """Two lines change places."""
    lines = bytes(data).split(b"\r\n")
    one, other = pick.randrange(len(lines)), pick.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"\r\n".join(lines)


def insert(pick: random.Random, data: bytearray) -> None:
    at = pick.randrange(len(data) + 1)
    data[at:at] = pick.choice(TOKENS)


def splice(pick: random.Random, data: bytearray) -> None:
    """The head of one request and the tail of another."""
    other = pick.choice(CORPUS).sent
    data[pick.randrange(len(data) + 1) :] = other[pick.randrange(len(other)) :]


def truncate(pick: random.Random, data: bytearray) -> None:
    del data[pick.randrange(len(data)) :]


MUTATORS: Final[Sequence[Callable[[random.Random, bytearray], None]]] = (
    flip, overwrite, delete, duplicate, swap, insert, splice, truncate,
)  # fmt: skip


def mutated(seed: int) -> bytes:
    """A request of the corpus after one to four changes. Never empty."""
    pick = random.Random(seed)
    data = bytearray(pick.choice(CORPUS).sent)
    for _ in range(pick.randint(1, 4)):
        if data:
            pick.choice(MUTATORS)(pick, data)
    return bytes(data[:MAX_BYTES]) or b"\r\n"


def _span(pick: random.Random, data: bytearray) -> tuple[int, int]:
    start = pick.randrange(len(data))
    return start, min(len(data), start + pick.choice((1, 1, 2, 8, 40)))
