"""Kinds: what engines there can be, and what each takes and emits."""

from __future__ import annotations

from protocol.errors import NotFound
from protocol.wire import KindInfo, Page
from web.auth import Scope
from web.call import Call
from web.route import Section

section = Section("kinds")


@section.get("/kinds", Scope.READ)
async def list_kinds(call: Call) -> Page[KindInfo]:
    """All kinds that this house knows."""
    return Page(items=list(await call.house.kinds()))


@section.get("/kinds/{kind}", Scope.READ, NotFound)
async def get_kind(call: Call, kind: str) -> KindInfo:
    """One kind, with the JSON Schemas of its config and input."""
    return await call.house.kind(kind)
