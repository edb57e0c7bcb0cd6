"""Rows: the immutable, numbered facts that the journal holds and the streams carry.

A row is born without numbers; the store gives it `seq` and `engine_seq` inside the transaction that makes it durable.
Its body is encoded once (`tail`) and the numbers are spliced in front, so the bytes that are hashed, stored and
streamed are the same bytes (`wire`). Transient rows (deltas, progress) never get a number and are never stored.

A command that was accepted *is* its `command.accepted` row; the types in `SETTLING` are the one end of a command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from protocol.ids import event_id

__all__ = [
    "FAMILIES", "LEVELS", "RUN_ENDS", "SETTLING", "TRANSIENT", "Frame", "Row", "check_depth", "encode", "is_reserved",
]  # fmt: skip

_JOURNALED = (
    "engine", "command", "run", "request", "state", "plan", "message", "log", "dead_letter", "audit", "webhook",
)  # fmt: skip
FAMILIES = frozenset((*_JOURNALED, "snapshot", "gap", "server", "end"))
"""First words of the house's own types; authors' types are `<kind>.<name>`."""

TRANSIENT = frozenset({"run.progress", "run.output", "message.delta"})
"""Types without a number: shown to whoever is watching, dropped for a slow reader, never journaled."""

SETTLING = {
    "command.completed": "completed",
    "command.failed": "failed",
    "command.rejected": "rejected",
    "command.expired": "expired",
    "command.cancelled": "cancelled",
    "command.dead_lettered": "dead_lettered",
}
"""The one end of a command, and the state that it leaves the command in."""

RUN_ENDS = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.timed_out": "timed_out",
}
"""The one end of a run."""

LEVELS = 190
"""How deeply a value may be nested. Readers of JSON give up at 200, and what is kept is shown within something else."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: object, *, within: int = 0) -> bytes:
    """Compact UTF-8 JSON. Raises ValueError for NaN, infinities, lone surrogates and what is nested too deeply,
    TypeError for what is not JSON. `within`: how many levels there will be around it in its row.
    """
    try:
        raw = _encode(value).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if raw.count(b"[") + raw.count(b"{") > LEVELS - within:
        check_depth(value, within=within)
    return raw


def check_depth(value: object, *, within: int = 0) -> None:
    """Raises ValueError when it is nested in more than `LEVELS`, with those that it will be `within`."""
    levels, level = LEVELS - within, [value]
    for _ in range(levels):
        level = [member for outer in level for member in _members(outer) if isinstance(member, dict | list | tuple)]
        if not level:
            return
    raise ValueError(f"it is nested in more than {levels} levels")


def _members(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def is_reserved(event_type: str) -> bool:
    """Whether the type's family belongs to the house."""
    return event_type.partition(".")[0] in FAMILIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One thing a stream shows.

    `event`: an event type, or `snapshot`, `gap`, `end`, `server.closing`. `id`: the event id to resume from (None for
    transient rows, gap and closing). `data`: the whole envelope as UTF-8 JSON bytes, the very bytes of the journal.
    """

    event: str
    id: str | None
    data: bytes


@dataclass(slots=True, eq=False)
class Row:
    """One fact. `seq` and `engine_seq` are 0 until the store has committed it (audit rows keep `engine_seq` 0).

    `uid`, `engine_id` and `pool` are empty for a fact of the whole house; `time` is RFC 3339 with milliseconds; `wire`
    is the whole envelope as UTF-8 JSON and empty until `number` was called.
    """

    type: str
    time: str
    data: dict[str, Any]
    uid: str = ""
    engine_id: str = ""
    pool: str = ""
    incarnation: int = 0
    run_id: str | None = None
    command_id: str | None = None
    principal: str | None = None
    seq: int = 0
    engine_seq: int = 0
    wire: bytes = b""
    _tail: bytes = b""
    _frame: Frame | None = None

    @property
    def transient(self) -> bool:
        return self.type in TRANSIENT

    def tail(self) -> bytes:
        """The envelope without its numbers, encoded once. Raises as `encode` does."""
        if not self._tail:
            envelope: dict[str, Any] = {"type": self.type, "time": self.time}
            if self.engine_id:
                envelope |= {"pool": self.pool, "engine_id": self.engine_id}
            if self.run_id is not None:
                envelope["run_id"] = self.run_id
            if self.command_id is not None:
                envelope["command_id"] = self.command_id
            if self.engine_id:
                envelope["incarnation"] = self.incarnation
            if self.principal is not None:
                envelope["principal"] = self.principal
            envelope["data"] = self.data
            self._tail = encode(envelope)[1:]
        return self._tail

    def numbered(self, era: str, seq: int, engine_seq: int) -> bytes:
        """The wire bytes that this row has under these numbers; the row itself is not changed."""
        if engine_seq:
            return b'{"seq":%d,"engine_seq":%d,"id":"%s.%d",%s' % (seq, engine_seq, era.encode(), seq, self.tail())
        return b'{"seq":%d,"id":"%s.%d",%s' % (seq, era.encode(), seq, self.tail())

    def commit(self, seq: int, engine_seq: int, wire: bytes) -> None:
        """Give the row the numbers under which it is durable. Only a store calls this, once, after its COMMIT."""
        self.seq, self.engine_seq, self.wire = seq, engine_seq, wire

    def frame(self, era: str) -> Frame:
        """What streams show of it once it has its numbers, if it ever gets any: made once, for all readers."""
        if self._frame is None:
            if self.seq:
                self._frame = Frame(event=self.type, id=event_id(era, self.seq), data=self.wire)
            else:
                self._frame = Frame(event=self.type, id=None, data=b"{" + self.tail())
        return self._frame

    def envelope(self) -> dict[str, Any]:
        """The whole envelope, as its wire bytes say it."""
        found: dict[str, Any] = json.loads(self.wire)
        return found

    @classmethod
    def from_wire(cls, wire: bytes, uid: str) -> Row:
        """A stored row read back. `uid` is stored beside the wire bytes, which do not carry it."""
        e = json.loads(wire)
        return cls(
            type=e["type"], time=e["time"], data=e["data"], uid=uid, engine_id=e.get("engine_id", ""),
            pool=e.get("pool", ""), incarnation=e.get("incarnation", 0), run_id=e.get("run_id"),
            command_id=e.get("command_id"), principal=e.get("principal"), seq=e["seq"],
            engine_seq=e.get("engine_seq", 0), wire=wire,
        )  # fmt: skip
