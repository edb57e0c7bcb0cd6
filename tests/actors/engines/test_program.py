"""What is heard of a program that is given up: its last words, which may come after what it is blamed for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from actors.engines.program import Program
from actors.lines import Lines
from actors.secrets import Masking

Clock = trio.testing.MockClock


class Doomed:
    """A process that says on its standard error why it is wrong, once it has been killed for it."""

    def __init__(self) -> None:
        self.stdin, _ = trio.testing.memory_stream_one_way_pair()
        self.says, self.stdout = trio.testing.memory_stream_one_way_pair()
        self.complains, self.stderr = trio.testing.memory_stream_one_way_pair()
        self._killed = trio.Event()

    def signal(self, signum: int) -> None:
        self._killed.set()

    async def wait(self) -> int:
        await self._killed.wait()
        await self.complains.send_all(b"no such model\n")
        await self.complains.aclose()
        return -9

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def waiting() -> AsyncIterator[None]:
    yield


CTX: Any = SimpleNamespace(masking=lambda: Masking({}), process_wait=waiting)


@pytest.mark.parametrize("said", [b"junk\njunk\n", b"x" * 99])
async def test_last_words_that_come_after_the_fault_are_in_the_sentence(autojump_clock: Clock, said: bytes) -> None:
    process: Any = Doomed()
    heard = []

    async def hear(line: bytes) -> None:
        heard.append(line)
        program.give_up("says junk")
        await trio.lowlevel.checkpoint()

    program = Program("It", process, lines=Lines(50), heard=hear, noticed=lambda text: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.attend, CTX)
        await process.says.send_all(said)
    assert program.sentence(program.blame).endswith("Its last lines on standard error:\nno such model")
    said_of = "says junk" if heard else f"does not speak the protocol: a line is longer than 50 bytes, '{'x' * 40}'..."
    assert program.blame == said_of
    assert len(heard) <= 1, "what is given up is heard no more"
