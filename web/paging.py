"""Pages of a list that is short enough to be in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from protocol.wire import Page

__all__ = ["page_of"]

T = TypeVar("T")


def page_of(items: Sequence[T], place: Callable[[T], str], *, limit: int, cursor: str | None) -> Page[T]:
    """The first `limit` of those behind `cursor`. `items` are in the order of their `place`, which names each: so what
    comes and goes meanwhile shifts nothing.
    """
    rest = items if cursor is None else [item for item in items if place(item) > cursor]
    shown = list(rest[:limit])
    return Page(items=shown, next_cursor=place(shown[-1]) if len(rest) > limit else None)
