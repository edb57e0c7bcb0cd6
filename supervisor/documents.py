"""Documents of one plain table, as those want them who keep something beside the engines."""

from __future__ import annotations

from typing import Any, Protocol

from supervisor.embedded import EmbeddedHouse
from supervisor.house import NOBODY, Caller

__all__ = ["Documents", "HouseDocuments"]


class Documents(Protocol):
    """JSON values by id. Everything is durable on return; Unavailable when that is not possible. A write is ordered
    when it is called, before its first await; cancelled, it may be durable all the same. `caller`: who asked, and whose
    audit row goes along (None: nobody did).
    """

    async def load(self) -> dict[str, Any]: ...
    async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None: ...
    async def remove(self, id: str, caller: Caller | None = None) -> None: ...


class HouseDocuments:
    """A table in the house's own store."""

    def __init__(self, house: EmbeddedHouse, table: str) -> None:
        self._house = house
        self._table = table

    async def load(self) -> dict[str, Any]:
        return await self._house.documents(self._table)

    async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None:
        await self._house.put_document(self._table, id, doc, caller or NOBODY)

    async def remove(self, id: str, caller: Caller | None = None) -> None:
        await self._house.put_document(self._table, id, None, caller or NOBODY)
