"""Who stands behind a principal: of a schedule, its creator; of a key, the user who made it."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.schedules import Schedules
from web.auth import Identity

__all__ = ["People"]


@dataclass(frozen=True, slots=True)
class People:
    """What `house.identify` takes."""

    identity: Identity
    schedules: Schedules

    def __call__(self, principal: str) -> str:
        kind, _, name = principal.partition(":")
        creator = self.schedules.creator_of(name) if kind == "schedule" else None
        return self.identity.person_of(creator or principal)
