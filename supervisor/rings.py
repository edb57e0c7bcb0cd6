"""Rings: the last rows that were published, and cursors on them.

A subscriber is a cursor and owns no buffer, so publishing costs O(1) however many there are, and a slow reader costs
nobody anything. A cursor that fell off the ring goes on in the journal and comes back. Transient rows travel in the
ring with the durable ones and have no number; those that a cursor missed are counted, not kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from protocol.events import Row

__all__ = ["Ring", "Rings"]

HOUSE_ROWS, ENGINE_ROWS = 1024, 256


class Ring:
    """`first`: the place of the oldest row kept; `next`: that of the row to come; `lost`: the highest `seq` that is not
    in the ring any more; `readers`: how many cursors are on it; `dropped`: how many transient rows have left it.
    """

    __slots__ = ("_rows", "dropped", "lost", "lot", "next", "readers", "size")

    def __init__(self, size: int, lost: int = 0) -> None:
        self._rows: list[Row] = []
        self.size = size
        self.next = 0
        self.readers = 0
        self.lost = lost
        self.dropped = 0
        self.lot = trio.lowlevel.ParkingLot()

    @property
    def first(self) -> int:
        return self.next - len(self._rows)

    def publish(self, row: Row) -> None:
        if len(self._rows) < self.size:
            self._rows.append(row)
        else:
            place = self.next % self.size
            gone, self._rows[place] = self._rows[place], row
            if gone.seq:
                self.lost = gone.seq
            else:
                self.dropped += 1
        self.next += 1
        self.wake()

    def wake(self) -> None:
        """Let every reader look again."""
        if self.lot:
            self.lot.unpark_all()

    def transients_before(self, place: int) -> int:
        """How many transient rows were published before `place`, which must not be before `first`."""
        return self.dropped + sum(1 for n in range(self.first, place) if not self._rows[n % self.size].seq)

    def since(self, place: int) -> Iterator[Row]:
        """The rows from `place` on, which must not be before `first`."""
        return (self._rows[n % self.size] for n in range(place, self.next))


class Rings:
    """`house`: the ring of everything; beside it one for each engine that has readers."""

    def __init__(self) -> None:
        self.house = Ring(HOUSE_ROWS)
        self._engines: dict[str, Ring] = {}

    @property
    def readers(self) -> int:
        return self.house.readers + sum(ring.readers for ring in self._engines.values())

    def publish(self, row: Row) -> None:
        self.house.publish(row)
        ring = self._engines.get(row.uid)
        if ring is not None:
            ring.publish(row)

    def join(self, uid: str | None, latest: int) -> Ring:
        """The ring that a reader of one engine, or of all (None), reads. `latest`: the last `seq` published."""
        ring = self.house if uid is None else self._engines.setdefault(uid, Ring(ENGINE_ROWS, lost=latest))
        ring.readers += 1
        return ring

    def leave(self, uid: str | None, ring: Ring) -> None:
        ring.readers -= 1
        if uid is not None and not ring.readers and self._engines.get(uid) is ring:
            del self._engines[uid]

    def wake(self) -> None:
        for ring in (self.house, *self._engines.values()):
            ring.wake()
