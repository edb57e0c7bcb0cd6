"""Wall time that only goes forward: a clock that is set back never revives what has expired."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Forward"]


class Forward:
    """`wall`: Unix time in seconds. Calling it gives the latest time that it has seen."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._latest = 0.0

    def __call__(self) -> float:
        self._latest = max(self._latest, self._wall())
        return self._latest

    def observe(self, then: float) -> None:
        """An earlier life of the house was at `then`."""
        self._latest = max(self._latest, then)
