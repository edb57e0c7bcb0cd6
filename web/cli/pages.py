"""Lists that come in pages, read to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web.client.remote import RemoteHouse

__all__ = ["every"]


async def every(house: RemoteHouse, *where: str) -> list[Any]:
    """The items of all pages of the list at a path below `/api/v1`."""
    items: list[Any] = []
    cursor: str | None = None
    while True:
        page = await house.call("GET", *where, query=(("limit", 1000), ("cursor", cursor)))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items
