"""What a look found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "Group", "Status"]

Group = Literal["house", "machine", "agent"]
Status = Literal["ok", "absent", "wrong"]
"""`absent`: something that a house can do without is not to be had; `wrong`: it has to be mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`detail`: a sentence or two. `facts`: more, for programs."""

    group: Group
    name: str
    status: Status
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)
