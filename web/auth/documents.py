"""Tables of credentials in the journal's store: who may log in, and with what.

Whoever ends a credential ends it in memory first, so that it is over at once; it may be the caller's own. So whether
the caller still stands is not asked again when that is journaled: it was, before anything changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supervisor.documents import HouseDocuments
from supervisor.house import NOBODY, Caller

__all__ = ["CredentialDocuments"]


class CredentialDocuments(HouseDocuments):
    """See the module."""

    async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None:
        await super().put(id, doc, replace(caller or NOBODY, standing=None))

    async def remove(self, id: str, caller: Caller | None = None) -> None:
        await super().remove(id, replace(caller or NOBODY, standing=None))
