"""The engine's inbox: bounded, owned by the engine and not by an incarnation.

It holds work only: control is applied when it is committed and needs no queue, so it overtakes a full mailbox by
construction. A place is reserved before a command is journaled and becomes a queued envelope when the commit is
delivered, so what was accepted always fits. Signals go before runs (they are handled while a run is in hand); among
runs high goes before normal, with one normal after at most `BURST` high ones. Taken is not handled: an envelope is in
hand until `end`.

At every moment: accepted = handled + dead + withdrawn + queued + in hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from actors.envelope import Envelope
from protocol.errors import MailboxFull

__all__ = ["BURST", "Mailbox", "MailboxStatistics"]

BURST = 8
"""High runs in a row before one normal run is taken."""

Ending = Literal["handled", "dead", "withdrawn"]


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """Counts of envelopes. `size`: places for reserved and queued ones; `oldest_at`: when the oldest queued one came,
    on the clock that stamped it (None: nothing waits).
    """

    size: int
    reserved: int
    queued: int
    in_hand: int
    accepted: int
    handled: int
    dead: int
    withdrawn: int
    oldest_at: float | None

    def __add__(self, other: MailboxStatistics) -> MailboxStatistics:
        """Both together, as if they were one mailbox."""
        stamps = [at for at in (self.oldest_at, other.oldest_at) if at is not None]
        return MailboxStatistics(
            size=self.size + other.size,
            reserved=self.reserved + other.reserved,
            queued=self.queued + other.queued,
            in_hand=self.in_hand + other.in_hand,
            accepted=self.accepted + other.accepted,
            handled=self.handled + other.handled,
            dead=self.dead + other.dead,
            withdrawn=self.withdrawn + other.withdrawn,
            oldest_at=min(stamps, default=None),
        )

    @property
    def balanced(self) -> bool:
        return self.accepted == self.handled + self.dead + self.withdrawn + self.queued + self.in_hand


class Mailbox:
    """See the module."""

    __slots__ = ("_high", "_highs_in_a_row", "_normal", "_signals", "accepted", "ended", "hand", "reserved", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.reserved = 0
        self.accepted = 0
        self.ended: dict[Ending, int] = {"handled": 0, "dead": 0, "withdrawn": 0}
        self.hand: list[Envelope] = []
        self._signals: deque[Envelope] = deque()
        self._high: deque[Envelope] = deque()
        self._normal: deque[Envelope] = deque()
        self._highs_in_a_row = 0

    def __len__(self) -> int:
        return len(self._signals) + len(self._high) + len(self._normal)

    def __iter__(self) -> Iterator[Envelope]:
        """The queued envelopes: signals, then runs as far as their order is already certain (high, normal)."""
        yield from self._signals
        yield from self._high
        yield from self._normal

    def runs(self) -> Iterator[Envelope]:
        yield from self._high
        yield from self._normal

    def has_runs(self) -> bool:
        return bool(self._high or self._normal)

    def reserve(self) -> None:
        """Take a place before journaling. Raises MailboxFull, and then nothing has changed."""
        if self.reserved + len(self) >= self.size:
            raise MailboxFull(
                f"The mailbox holds {self.size} messages, its limit. Nothing was accepted; send it again later.",
                retry_after_s=1,
            )
        self.reserved += 1

    def offer(self, envelope: Envelope) -> None:
        """Queue a volatile signal, which needs no reservation. Raises MailboxFull."""
        if self.reserved + len(self._signals) + len(self._high) + len(self._normal) >= self.size:
            self.reserve()
        self.accepted += 1
        self._signals.append(envelope)

    def release(self) -> None:
        """Give a reserved place back: its command was committed, replayed or failed."""
        self.reserved -= 1

    def deliver(self, envelope: Envelope, *, front: bool = False) -> None:
        """Queue an accepted envelope. Over-capacity is possible here (after a recovery) and blocks only new work."""
        self.accepted += 1
        self._put(envelope, front)

    def deliver_in_hand(self, envelope: Envelope) -> None:
        """An accepted envelope that was in hand when the last house died, and is to have its end."""
        self.accepted += 1
        self.hand.append(envelope)

    def _put(self, envelope: Envelope, front: bool) -> None:
        lane = self._signals if not envelope.is_run else self._high if envelope.high else self._normal
        if front:
            lane.appendleft(envelope)
        else:
            lane.append(envelope)

    def take(self, *, run_free: bool) -> Envelope | None:
        """The next envelope, now in hand: a signal, or a run when none is in hand. None: nothing to take."""
        if self._signals:
            envelope = self._signals.popleft()
        elif not run_free:
            return None
        elif self._high and not (self._normal and self._highs_in_a_row >= BURST):
            envelope = self._high.popleft()
            self._highs_in_a_row += 1
        elif self._normal:
            envelope = self._normal.popleft()
            self._highs_in_a_row = 0
        else:
            return None
        self.hand.append(envelope)
        return envelope

    def put_back(self, envelope: Envelope) -> None:
        """From hand to the front of its lane: the run was interrupted and will be started again."""
        self.hand.remove(envelope)
        self._put(envelope, front=True)

    def withdraw(self, envelope: Envelope) -> None:
        """Out of the queue: cancelled, expired or superseded before it was taken."""
        lane = self._signals if not envelope.is_run else self._high if envelope.high else self._normal
        lane.remove(envelope)
        self.ended["withdrawn"] += 1

    def end(self, envelope: Envelope, how: Ending) -> None:
        """The one end of an envelope in hand."""
        self.hand.remove(envelope)
        self.ended[how] += 1

    def bury_volatile(self) -> list[Envelope]:
        """The queued envelopes that no journal knows, as dead letters, in order; the others stay."""
        buried = [envelope for envelope in self._signals if envelope.command is None]
        if buried:
            self._signals = deque(envelope for envelope in self._signals if envelope.command is not None)
            self.ended["dead"] += len(buried)
        return buried

    def bury(self) -> list[Envelope]:
        """Everything queued, as dead letters, in order; the queue is empty afterwards."""
        buried = list(self)
        self._signals.clear()
        self._high.clear()
        self._normal.clear()
        self.ended["dead"] += len(buried)
        return buried

    def position(self, run_id: str) -> int | None:
        """How many queued runs go before this one (as the order stands now), or None when it is not queued."""
        for place, envelope in enumerate(self.runs()):
            if envelope.run_id == run_id:
                return place
        return None

    def find(self, run_id: str) -> Envelope | None:
        """The queued envelope of a run."""
        return next((e for e in self.runs() if e.run_id == run_id), None)

    def statistics(self) -> MailboxStatistics:
        return MailboxStatistics(
            size=self.size,
            reserved=self.reserved,
            queued=len(self),
            in_hand=len(self.hand),
            accepted=self.accepted,
            handled=self.ended["handled"],
            dead=self.ended["dead"],
            withdrawn=self.ended["withdrawn"],
            oldest_at=min((e.at for e in self if e.at is not None), default=None),
        )
