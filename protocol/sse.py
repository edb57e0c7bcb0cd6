"""Server-sent events, as bytes come in: the parser of WHATWG HTML 9.2.6, without I/O.

Own, because the one of the HTTP library ends at events of 1 MiB, decodes every byte, and cannot tell an event without
an id from one that repeats it; ours must, since an event without an id is transient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.errors import EnginehouseError

__all__ = ["EVENT_BYTES", "SseEvent", "SseParser"]

EVENT_BYTES: Final = 16 << 20
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """`id`: what its own `id:` line says, None without one. `data`: its `data:` lines, joined by newlines."""

    event: str
    id: str | None
    data: bytes


class SseParser:
    """One connection's parser. `last_id` is the position to resume from, `retry_ms` what the server last asked for."""

    def __init__(self, limit_bytes: int = EVENT_BYTES) -> None:
        self.last_id: str | None = None
        self.retry_ms: int | None = None
        self._limit_bytes = limit_bytes
        self._partial: list[bytes] = []
        self._after_cr = False
        self._first = True
        self._size_bytes = 0
        self._event = ""
        self._id: str | None = None
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that `chunk` completes. What is incomplete when the connection ends is no event (9.2.6).

        Raises:
            EnginehouseError: an event is larger than `limit_bytes`.

        """
        if self._after_cr and chunk:
            # A CR has ended its line already; the LF of a CRLF that was cut in two belongs to it.
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = self._after_cr or chunk.endswith(b"\r")
        events: list[SseEvent] = []
        for piece in chunk.splitlines(keepends=True):
            self._size_bytes += len(piece)
            if self._size_bytes > self._limit_bytes:
                raise EnginehouseError(f"An event is larger than {self._limit_bytes} bytes: the stream cannot be read.")
            line = piece.rstrip(b"\r\n")
            self._partial.append(line)
            if len(line) < len(piece):
                whole = b"".join(self._partial)
                self._partial.clear()
                self._line(whole, events)
        return events

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit():
                self.retry_ms = int(value[:9])

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._id is not None:
            self.last_id = self._id
        if self._data:
            events.append(SseEvent(self._event or "message", self._id, b"\n".join(self._data)))
        self._event, self._id, self._size_bytes = "", None, 0
        self._data.clear()
