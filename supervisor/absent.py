"""A stand-in for a kind that is not here any more, or that no longer takes the config its engine was spawned with.

The house keeps such an engine with all that it owns, and shows it `failed`, with a sentence, when it would boot; it is
up again once the kind is back and somebody starts it. One lost package must not keep the others from coming back.
"""

from __future__ import annotations

from actors.context import Context
from actors.engine import CannotStart, Engine

__all__ = ["absent"]


def absent(why: str) -> type[Engine]:
    """A kind whose engines cannot start, and say why."""

    class Absent(Engine):
        kind = "absent"

        async def on_start(self, ctx: Context) -> None:
            raise CannotStart(why)

    return Absent
