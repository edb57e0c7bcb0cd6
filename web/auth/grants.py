"""What keys and users are granted, as it is written down: scopes, times pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from protocol.authority import Authority, Scope

__all__ = ["Pools", "Rate", "Scopes", "authority_of", "check_grant"]

Scopes = Annotated[list[Scope], Field(min_length=1, max_length=4)]
Pools = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]],
    Field(min_length=1, max_length=256, description="The pools it is bound to; null: all."),
]
Rate = Annotated[int, Field(ge=1, le=1_000_000, description="Requests in any 60 s.")]


def check_grant(scopes: Sequence[Scope], pools: Sequence[str] | None) -> None:
    """Raises ValueError for `admin` in some pools: there is one house, and its administration has no parts."""
    if Scope.ADMIN in scopes and pools is not None:
        raise ValueError("admin is for the whole house; leave out either admin or the pools")


def authority_of(scopes: Sequence[Scope], pools: Sequence[str] | None) -> Authority:
    return Authority(scopes=frozenset(scopes), pools=None if pools is None else frozenset(pools))
