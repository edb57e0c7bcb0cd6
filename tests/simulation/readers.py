"""Readers of the event stream that lose their connection, fall behind, and go on with their last event id."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import trio

from protocol.errors import EnginehouseError
from protocol.ids import event_id
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Filter, Frame
from tests.simulation.world import World

__all__ = ["Reader"]


@dataclass(slots=True, eq=False)
class Reader:
    """One reader over all lives. `first`: everything after this `seq` must arrive; `uid`: of the engine it watches."""

    name: str
    filter: Filter
    first: int | None = None
    last: str | None = None
    uid: str | None = None
    ended: bool = False
    seen: list[tuple[int, bytes]] = field(default_factory=list)

    async def run(self, world: World, house: EmbeddedHouse, *, patient: bool = False) -> None:
        """Read for as long as the life lasts, over many connections; `patient`: until nothing is left to read."""
        rng = world.rng
        while world.alive and not self.ended:
            with trio.move_on_after(float("inf") if patient else rng.choice([0.01, 0.1, 1.0])) as hangs_up:
                try:
                    await self.connect(world, house, patient=patient)
                except EnginehouseError as error:
                    world.must(error.slug in ("not-found", "store-unavailable"), f"I8 {self.name}: {error!r}")
                    await trio.sleep(0.05)
            if patient and not hangs_up.cancelled_caught:
                return
            await trio.sleep(rng.random() * 0.02)

    async def connect(self, world: World, house: EmbeddedHouse, *, patient: bool) -> None:
        supervisor = house.supervisor
        if self.filter.engine is not None:
            uid = supervisor.view(self.filter.engine).spec.uid
            if self.uid is not None and uid != self.uid:
                self.ended = True  # the id is another engine now
                return
            self.uid = uid
        if self.last is None and world.rng.random() < 0.3:
            self.first, self.last = 0, "0"
        elif self.last is None:
            self.first = supervisor.folded
        async with house.events(self.filter, after=self.last) as stream:
            self.last = self.last or event_id(supervisor.store.era, supervisor.folded)
            while True:
                frames: list[Frame] = []
                with trio.move_on_after(1.0 if patient else float("inf")):
                    frames = await stream.receive()
                if not frames:
                    return  # nothing more comes
                for frame in frames:
                    if not world.alive:
                        return
                    self.take(world, frame)
                if frames[-1].event in ("server.closing", "end"):
                    self.ended = frames[-1].event == "end"
                    return
                if world.rng.random() < 0.05:
                    await trio.sleep(world.rng.random() * 0.1)  # slow: it falls off the ring

    def take(self, world: World, frame: Frame) -> None:
        """One frame; of the durable ones the id and the bytes are kept."""
        if frame.event == "gap":
            transients = json.loads(frame.data)["reason"] == "slow"
            world.must(transients, f"I9 {self.name} has a gap, nothing was compacted: {frame.data!r}")
        elif frame.id is not None and frame.event != "end":
            self.last = frame.id
            self.seen.append((json.loads(frame.data)["seq"], frame.data))
