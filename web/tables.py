"""Plain tables in the journal's store: who may log in, and with what.

Whoever ends a credential ends it in memory first, so that it is over at once; it may be the caller's own. So whether
the caller still stands is not asked again when that is journaled: it was, before anything changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supervisor import Caller, EmbeddedHouse

__all__ = ["Documents"]


class Documents:
    """A plain table of the journal's store; see `web.auth.Table`."""

    def __init__(self, house: EmbeddedHouse, name: str) -> None:
        self._house = house
        self._name = name

    async def load(self) -> list[dict[str, Any]]:
        return list((await self._house.documents(self._name)).values())

    async def put(self, id: str, doc: dict[str, Any], caller: Caller) -> None:
        await self._house.put_document(self._name, id, doc, replace(caller, standing=None))

    async def remove(self, id: str, caller: Caller) -> None:
        await self._house.put_document(self._name, id, None, replace(caller, standing=None))
