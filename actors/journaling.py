"""How an engine speaks to its journal: in order, in turns, and never waiting but at barriers.

What is noted within one `turn` is one write. Changed slices are written before any other row, so the order of what was
said is kept; `barrier` waits until all of it is durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from actors.digest import Digest
from actors.host import Host
from actors.secrets import Secrets
from actors.slices import Slices
from protocol.events import Row, encode
from protocol.specs import Spec

__all__ = ["Journaling"]

PATCH_LEVELS = 4
"""What there is around a slice's value in the row of its patch: the envelope, the data, the patch, the operation."""

LOG_ROWS, LOG_WINDOW_S = 200, 1.0
"""How many `log.line` rows an engine may write per window; the rest is counted in one `log.dropped`."""


class Journaling:
    """The part of a cell that writes. `lot`: where everything of this engine parks; `rows_ahead`, `bytes_ahead`: what
    was said and is not durable yet; `digests`: those of the open runs, by run id; `secrets`: what no row of this engine
    may hold.
    """

    incarnation = 0

    def __init__(self, host: Host, spec: Spec) -> None:
        self.host, self.spec = host, spec
        self.lot = trio.lowlevel.ParkingLot()
        self.secrets = Secrets()
        self.slices = Slices(self._patched)
        self.rows_ahead = self.bytes_ahead = 0
        self._sent = self._done = 0
        self._turns = 0
        self._rows: list[Row] = []
        self._logged = (0.0, 0, 0)
        self.digests: dict[str, Digest] = {}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Everything noted within is one write; turns nest."""
        self._turns += 1
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns and self._rows:
                rows, self._rows = tuple(self._rows), []
                self._send(rows)

    def note(
        self,
        type: str,
        data: dict[str, Any],
        *,
        run_id: str | None = None,
        command_id: str | None = None,
        principal: str | None = None,
        time: str | None = None,
    ) -> Row:
        """Write a durable row, in order. Raises ValueError or TypeError for data that is not JSON; then nothing
        happened.
        """
        if self.slices.dirty and type != "state.patched":
            self.slices.flush()
        data = self.secrets.masked(data)
        row = self._row(type, data, run_id, command_id, principal)
        if time is not None:
            row.time = time
        row.tail()
        digest = self.digests.get(run_id) if run_id is not None else None
        if digest is not None:
            digest.add({"type": type, "time": row.time, "data": data})
        if self._turns:
            self._rows.append(row)
        else:
            self._send((row,))
        return row

    def transient(self, type: str, data: dict[str, Any], *, run_id: str | None = None) -> None:
        """Show a row to whoever is watching, and forget it. `data` is JSON: it is encoded by those who watch."""
        self.host.publish(self, self._row(type, self.secrets.masked(data), run_id, None, None))

    def _row(
        self, type: str, data: dict[str, Any], run_id: str | None, command_id: str | None, principal: str | None
    ) -> Row:
        spec = self.spec
        return Row(
            type=type, time=self.host.stamp(), data=data, uid=spec.uid, engine_id=spec.id, pool=spec.pool,
            incarnation=self.incarnation, run_id=run_id, command_id=command_id, principal=principal,
        )  # fmt: skip

    def _send(self, rows: tuple[Row, ...]) -> None:
        self._sent += 1
        self.rows_ahead += len(rows)
        self.bytes_ahead += sum(len(row.tail()) for row in rows)
        self.host.submit(self, rows)

    def committed(self, rows: tuple[Row, ...]) -> None:
        """A write of this cell is durable (called once for each, in order)."""
        self._done += 1
        self.rows_ahead -= len(rows)
        self.bytes_ahead -= sum(len(row.tail()) for row in rows)
        if self.slices.dirty and self._done == self._sent:
            self.slices.flush()
        self.lot.unpark_all()

    async def barrier(self) -> None:
        """Wait until everything said so far is durable."""
        self.slices.flush()
        until = self._sent
        if self._done >= until:
            await trio.lowlevel.checkpoint()
        while self._done < until:
            self.host.check_durable()
            await self.lot.park()

    def update(self, name: str, value: Any, run_id: str | None) -> None:
        """Set a slice. Raises ValueError or TypeError for what is not JSON: now, since others may write its patch."""
        value = self.secrets.masked(value)
        encode({name: value}, within=PATCH_LEVELS - 1)
        self.slices.set(name, value, run_id)
        if self._done == self._sent and not self._turns:
            self.slices.flush()

    def _patched(self, data: dict[str, Any], run_id: str | None) -> None:
        self.note("state.patched", data, run_id=run_id if run_id in self.digests else None)

    def log(self, text: str, level: str, fields: dict[str, Any], run_id: str | None) -> None:
        """A `log.line` within the budget; what exceeds it becomes one `log.dropped` when the window ends."""
        since, count, dropped = self._logged
        now = self.host.now()
        if now - since >= LOG_WINDOW_S:
            self.say_dropped()
            since, count, dropped = now, 0, 0
        if count < LOG_ROWS:
            self.note("log.line", {"level": level, "text": text, **fields}, run_id=run_id)
            count += 1
        else:
            if not dropped:
                self.host.at(since + LOG_WINDOW_S, self.say_dropped)
            dropped += 1
        self._logged = (since, count, dropped)

    def say_dropped(self) -> None:
        """Say how many lines were dropped, if any were."""
        since, count, dropped = self._logged
        if dropped:
            self._logged = (since, count, 0)
            self.note("log.dropped", {"count": dropped})
