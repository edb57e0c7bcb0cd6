"""Watchers: tasks that wait until the view of an engine is as they want it.

What is wanted is looked for after each row, within the fold. So what one row brings about and the next row of the same
batch undoes was seen: a pause that was reached and lifted again was reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from protocol.errors import EnginehouseError
from protocol.view import View

__all__ = ["Watchers"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Watch:
    look: Callable[[View], Any]
    found: Any = None
    event: trio.Event = field(default_factory=trio.Event)


class Watchers:
    """Those of one house, by the engine that they watch."""

    def __init__(self) -> None:
        self._watches: dict[str, list[_Watch]] = {}
        self._over: Callable[[], EnginehouseError] | None = None

    def folded(self, view: View) -> None:
        """A row was folded into this view."""
        for watch in list(self._watches.get(view.spec.uid, ())):
            if watch.found is None and (found := watch.look(view)):
                watch.found = found
                watch.event.set()

    def end(self, error: Callable[[], EnginehouseError]) -> None:
        """Nothing will be folded any more: tell everybody, now and later."""
        self._over = error
        for watches in self._watches.values():
            for watch in watches:
                watch.event.set()

    async def watch(self, view: View, look: Callable[[View], T | None]) -> T:
        """The first true thing that `look` sees in the view: now, or after a row. Raises what `end` was given."""
        watch = _Watch(look)
        if found := look(view):
            await trio.lowlevel.checkpoint()
            return found
        uid = view.spec.uid
        if self._over is None:
            self._watches.setdefault(uid, []).append(watch)
            try:
                await watch.event.wait()
            finally:
                self._watches[uid].remove(watch)
                if not self._watches[uid]:
                    del self._watches[uid]
        if watch.found is None:
            assert self._over is not None
            raise self._over()
        return watch.found  # type: ignore[no-any-return]  # what `look` gave
