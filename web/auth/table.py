"""Where keys, users and families live: plain tables of the store."""

from __future__ import annotations

from typing import Any, Protocol

from supervisor.house import Caller

__all__ = ["NOBODY", "Table", "Tables"]

NOBODY = Caller()


class Table(Protocol):
    """Documents by id. All three are durable on return; Unavailable when that is not possible. A write is ordered when
    it is called, before its first await; cancelled, it may be durable all the same. `caller`: whose audit row goes
    with it.
    """

    async def load(self) -> list[dict[str, Any]]: ...
    async def put(self, id: str, doc: dict[str, Any], caller: Caller) -> None: ...
    async def remove(self, id: str, caller: Caller) -> None: ...


class Tables(Protocol):
    """The table of this name."""

    def __call__(self, name: str, /) -> Table: ...
