"""The mailbox alone, against trio's memory channel: what a batch between two checkpoints is worth."""

from __future__ import annotations

import trio
import trio.testing

from actors.envelope import Envelope
from actors.loop import BATCH
from actors.mailbox import Mailbox
from bench.figures import Figure, Scale, at_least, figure
from bench.measure import Stopwatch, in_turn, rate, under_trio
from protocol.errors import MailboxFull

__all__ = ["ROWS"]

ROWS = ("loaded", "fan")

SIZE = 1000


class Box:
    """A mailbox and where its consumer parks, used as the loop of an actor uses them."""

    def __init__(self) -> None:
        self.mailbox, self.lot = Mailbox(SIZE), trio.lowlevel.ParkingLot()

    def offer(self, envelope: Envelope) -> None:
        self.mailbox.offer(envelope)
        if self.lot:
            self.lot.unpark_all()

    async def consume(self, count: int) -> None:
        taken = 0
        while count:
            envelope = self.mailbox.take(run_free=True)
            if envelope is None:
                await self.lot.park()
                continue
            self.mailbox.end(envelope, "handled")
            count -= 1
            taken += 1
            if taken % BATCH == 0:
                await trio.lowlevel.checkpoint()


async def _box_loaded(count: int) -> float:
    box, watch = Box(), Stopwatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.consume, count)
        for number in range(count):
            while True:
                try:
                    box.offer(Envelope("message", number))
                    break
                except MailboxFull:
                    await trio.lowlevel.checkpoint()
    return rate(count, watch())


async def _channel_loaded(count: int) -> float:
    send, receive = trio.open_memory_channel[Envelope](SIZE)
    watch = Stopwatch()

    async def consume() -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with send:
            for number in range(count):
                await send.send(Envelope("message", number))
    return rate(count, watch())


async def _box_fan(actors: int, each: int) -> float:
    boxes = [Box() for _ in range(actors)]
    async with trio.open_nursery() as nursery:
        for box in boxes:
            nursery.start_soon(box.consume, each)
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch()
        for number in range(each):
            for box in boxes:
                box.offer(Envelope("message", number))
            await trio.lowlevel.checkpoint()
    return rate(actors * each, watch())


async def _channel_fan(actors: int, each: int) -> float:
    channels = [trio.open_memory_channel[Envelope](SIZE) for _ in range(actors)]

    async def consume(receive: trio.MemoryReceiveChannel[Envelope]) -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        for _, receive in channels:
            nursery.start_soon(consume, receive)
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch()
        for number in range(each):
            for send, _ in channels:
                send.send_nowait(Envelope("message", number))
            await trio.lowlevel.checkpoint()
        for send, _ in channels:
            send.close()
    return rate(actors * each, watch())


def loaded(scale: Scale) -> list[Figure]:
    """One producer, one consumer, as fast as they can."""
    count = scale.of(100_000, 500)
    found = in_turn(scale.rounds, ours=under_trio(_box_loaded, count), channel=under_trio(_channel_loaded, count))
    return [
        figure("mailbox, loaded, 1 to 1", "msg/s", found["ours"], "trio channel(1000)", found["channel"], at_least(10))
    ]


def fan(scale: Scale) -> list[Figure]:
    """One producer, a thousand consumers, one message for each in turn."""
    actors, each = scale.of(1000, 20), scale.of(50, 3)
    found = in_turn(
        scale.rounds,
        ours=under_trio(_box_fan, actors, each),
        channel=under_trio(_channel_fan, actors, each),
    )
    return [
        figure(
            f"mailbox, fan of {actors}", "msg/s", found["ours"], "a trio channel each", found["channel"], at_least(0.85)
        )
    ]
