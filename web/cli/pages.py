"""Lists that come in pages, read to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web.client.remote import RemoteHouse

__all__ = ["every"]


async def every(house: RemoteHouse, *where: str) -> list[Any]:
    """The items of all pages of the list at a path below `/api/v1`."""
    items: list[Any] = []
    query = {"limit": "1000"}
    while True:
        page = await house.call("GET", *where, query=query)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        query["cursor"] = page["next_cursor"]
