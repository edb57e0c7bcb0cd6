"""What holds the processes of a tree, for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from actors.children import ResourceLimits
from actors.processes import cgroup


@dataclass(frozen=True, slots=True)
class Confined:
    """What holds the processes of a tree: their limits, their control group, and whether they can signal nothing but
    each other.
    """

    limits: ResourceLimits
    group: str | None
    walled: bool

    @property
    def freezes(self) -> bool:
        """Whether the group can be frozen; else it is done by signals."""
        return self.group is not None and cgroup.has(self.group, "cgroup.freeze")

    @property
    def kills(self) -> bool:
        """Whether the group can be killed in one step; else it is done by signals."""
        return self.group is not None and cgroup.has(self.group, "cgroup.kill")
