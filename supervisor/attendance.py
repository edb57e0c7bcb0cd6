"""Who is watching: whether anybody who may decide a request can see that it waits.

A request that nobody sees waits for its deadline, or for ever. Somebody watches who has a stream open on which the
request is shown, or who has read the requests within the last minute, and who may decide it: with the scope, in that
pool, and not the one who asked. The web says here who comes and goes; an embedding program may do the same for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from protocol.authority import Authority
from protocol.deciding import may_decide
from protocol.errors import InsufficientScope
from protocol.requests import Request
from protocol.specs import PoolSpec
from supervisor.house import Filter

__all__ = ["LOOK_S", "Attendance", "AttendanceStatistics", "Watcher"]

ALL = Filter()
LOOK_S = 60.0
"""For how long somebody who has looked, or whose stream has ended, counts as watching."""
LOOKS = 1024
"""How many who have looked are remembered; beyond it the oldest is forgotten, and counts as absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Somebody who sees what `shown` lets through. `authority` None: the embedding program; `kind`: the only kind of
    requests that they look at.
    """

    principal: str | None = None
    authority: Authority | None = None
    shown: Filter = ALL
    kind: str | None = None

    def sees(self, request: Request, kind: str) -> bool:
        shown = self.shown
        return (
            (self.authority is None or self.authority.sees(request.pool, request.uid))
            and self.kind in (None, request.kind)
            and shown.engine in (None, request.engine_id)
            and shown.run in (None, request.run_id)
            and (not shown.pools or request.pool in shown.pools)
            and (not shown.kinds or kind in shown.kinds)
            and (not shown.types or bool({"request", "request.opened"}.intersection(shown.types)))
        )


@dataclass(frozen=True, slots=True)
class AttendanceStatistics:
    """`streams`: open ones; `looked`: watchers who have looked lately."""

    streams: int
    looked: int


class Attendance:
    """See the module. `now`: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._streams: Counter[Watcher] = Counter()
        self._looked: dict[Watcher, float] = {}

    @contextmanager
    def stream(self, watcher: Watcher) -> Iterator[None]:
        """Somebody has a stream open."""
        self._streams[watcher] += 1
        try:
            yield
        finally:
            self._streams[watcher] -= 1
            self._streams += Counter()  # drops what is zero
            self.look(watcher)

    def look(self, watcher: Watcher) -> None:
        """Somebody has just read what waits."""
        self._looked.pop(watcher, None)
        self._looked[watcher] = self._now()
        self._forget()

    def _forget(self) -> None:
        """They are in the order of their looks."""
        since = self._now() - LOOK_S
        while self._looked and (len(self._looked) > LOOKS or next(iter(self._looked.values())) <= since):
            del self._looked[next(iter(self._looked))]

    def watches(self, request: Request, *, kind: str, pool: PoolSpec, person: Callable[[str], str]) -> bool:
        """Whether somebody who may decide this request of an engine of this kind watches, or did a moment ago."""
        self._forget()
        return any(
            watcher.sees(request, kind) and _may(request, watcher, pool, person)
            for watcher in (*self._streams, *self._looked)
        )

    def statistics(self) -> AttendanceStatistics:
        self._forget()
        return AttendanceStatistics(streams=self._streams.total(), looked=len(self._looked))


def _may(request: Request, watcher: Watcher, pool: PoolSpec, person: Callable[[str], str]) -> bool:
    try:
        may_decide(request, principal=watcher.principal, authority=watcher.authority, pool=pool, person=person)
    except InsufficientScope:
        return False
    return True
