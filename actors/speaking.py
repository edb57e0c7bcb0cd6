"""What an engine knows of itself, and how it speaks. Nothing here waits but `emit`, for an engine that is far ahead of
the disk.
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from actors.children import ChildPolicy
from actors.engine import Finished, RunInput
from actors.secrets import Masking
from protocol.commands import Pause
from protocol.edge import as_json
from protocol.events import encode, is_reserved
from protocol.specs import OnInterrupt, PauseMode
from protocol.states import State
from protocol.trace import Trace

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.incarnation import Incarnation

__all__ = ["EMIT_BYTES", "EMIT_ROWS", "Speaking"]

EMIT_ROWS, EMIT_BYTES = 256, 1 << 20
"""How far one engine may be ahead of the disk before `emit` waits; `emit_nowait` raises at twice that."""
CHECKPOINT_EVERY = 64


class Speaking:
    """The half of a `Context` that does not wait."""

    def __init__(self, cell: Cell, incarnation: Incarnation, run: RunInput | None = None) -> None:
        self._cell = cell
        self._incarnation = incarnation
        self._run = run
        self._emitted = 0
        self._delta: tuple[tuple[str, int], Masking, IncrementalDecoder] | None = None

    # -- who and when ------------------------------------------------------------------------------------------------
    @property
    def engine_id(self) -> str:
        return self._cell.spec.id

    @property
    def labels(self) -> Mapping[str, str]:
        return self._cell.spec.labels

    @property
    def incarnation(self) -> int:
        return self._cell.incarnation

    @property
    def trace(self) -> Trace | None:
        """The trace that this run belongs to, for what it starts or calls; None outside of runs, or without one."""
        return self._cell.host.observer.trace(self._run.id) if self._run is not None else None

    @property
    def children(self) -> ChildPolicy:
        """What this house lets the programs of its engines do, and where."""
        return self._cell.host.children

    @property
    def stopping(self) -> bool:
        """The engine was asked to end; what is in hand should come to its end soon."""
        return self._cell.ending or self._cell.host.gone

    @property
    def leaving(self) -> bool:
        """The incarnation ends, and its process tree is left to the next house (`Engine.lasts`)."""
        return self._incarnation.leaves_processes

    @property
    def on_interrupt(self) -> OnInterrupt:
        """What becomes of a run that was in hand when the last incarnation ended."""
        return self._cell.spec.on_interrupt

    @property
    def signalled_by(self) -> tuple[str, ...]:
        """The principals that sent the signal in hand, and stand behind it; none where an actor of this process did."""
        hand = [envelope.command for envelope in self._cell.mailbox.hand if not envelope.is_run]
        return tuple(
            name for command in hand if command is not None for name in (command.principal, *command.asked_by) if name
        )

    @property
    def home(self) -> Path:
        """A directory of this engine's own, for us alone, which is there as long as its process tree: for its sockets,
        so the path is short, and for what is to be known of the tree. Made when it is asked for. Only for kinds whose
        trees may last (`Engine.lasts`); what the engine keeps is in `folder`. Raises OSError.
        """
        self._cell.home.make()
        return self._cell.home.own

    @property
    def held(self) -> PauseMode | None:
        """How the engine is held at this moment, a freeze before anything else; None when it is not, or is to end."""
        cell = self._cell
        if cell.state not in (State.PAUSING, State.PAUSED) or not cell.holds:
            return None
        modes = [hold.mode for hold in cell.holds.values()]
        return PauseMode.FREEZE if PauseMode.FREEZE in modes else modes[0]

    async def until_held(self, *modes: PauseMode | None) -> PauseMode | None:
        """Wait until `held` is one of these, and tell which. No pause point: it is for a task of the author's own that
        sees to a pause.
        """
        while (mode := self.held) not in modes:
            await self._cell.lot.park()
        return mode

    def time(self) -> float:
        """Monotonic seconds that stand still while the engine is paused."""
        return self._incarnation.clock.time()

    def stamp(self) -> str:
        """The time of day, as RFC 3339 in UTC with milliseconds."""
        return self._cell.host.stamp()

    @property
    def nursery(self) -> trio.Nursery:
        """Tasks of the author's own: cancelled when the incarnation ends; an exception in one crashes the actor."""
        return self._incarnation.own_nursery()

    # -- speaking ----------------------------------------------------------------------------------------------------
    async def emit(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """Journal an event of the author's own type (`<kind>.<name>`).

        Ordered on return, visible when durable. Waits only while this engine is `EMIT_ROWS` rows or `EMIT_BYTES` bytes
        ahead of the disk. Raises ValueError for a reserved family or for data that is not JSON. Cancelled while
        waiting: the event is journaled all the same.
        """
        self._emit(type, data)
        self._emitted += 1
        cell = self._cell
        while cell.rows_ahead >= EMIT_ROWS or cell.bytes_ahead >= EMIT_BYTES:
            cell.host.check_durable()
            await cell.lot.park()
        if self._emitted % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.checkpoint()

    def emit_nowait(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """The same without waiting; raises trio.WouldBlock when the engine is twice as far ahead as it may be."""
        cell = self._cell
        if cell.rows_ahead >= 2 * EMIT_ROWS or cell.bytes_ahead >= 2 * EMIT_BYTES:
            raise trio.WouldBlock
        self._emit(type, data)

    def _emit(self, type: str, data: Mapping[str, Any] | None) -> None:
        if is_reserved(type) or "." not in type:
            raise ValueError(f"{type!r} is not a type of your own: use '<kind>.<name>', with no reserved first word")
        cell = self._speaking()
        self._progressed()
        cell.note(type, dict(data or {}), run_id=self._run_id)

    def update(self, slice: str, value: Any) -> None:
        """Set a slice of the public state. Never waits; it travels as a JSON Patch, quick repeats as one. Raises
        ValueError or TypeError for what is not JSON.
        """
        cell = self._speaking()
        self._progressed()
        cell.update(slice, as_json(value), self._run_id)

    def slice(self, name: str) -> Any:
        """The slice's present value, also what an earlier incarnation left; None when it was never set."""
        return self._cell.slices.value(name)

    def log(self, text: str, *, level: str = "info", **fields: Any) -> None:
        """A line for people (`log.line`). Past its budget lines are counted and become one `log.dropped`."""
        self._speaking().log(text, level, as_json(fields), self._run_id)

    def progress(self, data: Mapping[str, Any] | None = None) -> None:
        """Show that the run advances (transient), and reset the stall watch. Raises ValueError or TypeError for data
        that is not JSON.
        """
        cell = self._speaking()
        self._progressed()
        shown = dict(data or {})
        encode(shown, within=1)  # the envelope
        cell.transient("run.progress", shown, run_id=self._run_id)

    def delta(self, text: str, *, type: str = "text", message: int = 0) -> None:
        """Show a piece of what is just being said (transient `message.delta`), and reset the stall watch.

        `type`: `text` or `thought`; `message`: counts messages, so that readers see where one ends. What may be the
        beginning of a secret is held back until more of the same message comes; the whole message says it all.
        """
        if type not in ("text", "thought"):
            raise ValueError(f"{type!r} is neither 'text' nor 'thought'")
        cell = self._speaking()
        self._progressed()
        if self._delta is None or self._delta[0] != (type, message):
            self._delta = ((type, message), cell.secrets.stream(), getincrementaldecoder("utf-8")(errors="replace"))
        _, masking, decoder = self._delta
        if shown := decoder.decode(masking.feed(text.encode(errors="replace"))):
            cell.transient("message.delta", {"message": message, "type": type, "text": shown}, run_id=self._run_id)

    def usage(self, /, **amounts: float) -> None:
        """Add to what this run has used (`tokens`, `cost_usd`, ...). Raises ValueError for more than 10^15 of anything,
        ValueError or TypeError for what is not JSON.
        """
        encode(amounts)
        self._incarnation.add_usage(amounts)

    def hold(self, holder: str, reason: str) -> None:
        """Hold this engine, softly, in this holder's name, until somebody lifts that: it is paused from the next pause
        point on. For an engine that must not go on by itself, such as one that has spent what it may. Raises ValueError
        or AttributeError for what is no text.
        """
        cell = self._speaking()
        for text in (holder, reason):  # a hold that no row can tell of could never be lifted
            text.encode()
        with cell.turn():
            cell.hold(Pause(mode=PauseMode.SOFT, holder=holder, reason=reason), None)

    def finish(self) -> None:
        """End this incarnation, well: raises Finished."""
        raise Finished

    # -- within ------------------------------------------------------------------------------------------------------
    def _speaking(self) -> Cell:
        """The cell, for as long as this incarnation is its actor and the house keeps its journal. Raises
        trio.ClosedResourceError for a task that was named as a leak and goes on all the same: its engine is disposed.
        """
        self._cell.host.check_durable()
        if self._cell.actor is not self._incarnation:
            raise trio.ClosedResourceError(f"this incarnation of {self._cell.spec.id} is over")
        return self._cell

    @property
    def _run_id(self) -> str | None:
        return self._run.id if self._run else None

    def _progressed(self) -> None:
        if self._run is not None:
            self._incarnation.progressed()

    async def _quietly(self, wait: Callable[[], Awaitable[None]] | None) -> None:
        await self._incarnation.quietly(wait)
