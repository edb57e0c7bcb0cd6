"""New settings without a restart: all of them, or none.

    read the file and the environment -> what differs -> every part prepares -> every part takes

What can fail comes first and changes nothing: the whole configuration is checked as at a start, and each part reads
the files that it needs. The last step is one synchronous stretch, so no request sees half of it. A setting that cannot
change while the daemon runs is named and stays as it is, until a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from web.loaded import Loaded
from web.settings import settings_keys

__all__ = ["Change", "Reload", "Reloadable", "Reloaded"]

log = structlog.get_logger("enginehouse.daemon")


@dataclass(frozen=True, slots=True)
class Change:
    """`take` makes it so, in the loop's thread, and cannot fail. `renewed`: keys of settings that name a file which
    holds something else than before.
    """

    take: Callable[[], object]
    renewed: tuple[str, ...] = ()


class Reloadable(Protocol):
    """A part of the daemon that takes new settings while it runs."""

    def __call__(self, loaded: Loaded, /) -> Change:
        """Prepare, in a thread of its own: read and check, and change nothing. Raises Problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """`changed`: settings that are in force now; `needs_restart`: differ from what the daemon runs with, and stay so;
    `unknown`: names in the environment that mean nothing.
    """

    changed: list[str]
    needs_restart: list[str]
    unknown: list[str]


class Reload:
    """`await reload()` reads and takes. `loaded`: what the daemon runs with, now."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._parts: list[Reloadable] = []
        self._one = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    def register(self, part: Reloadable) -> None:
        """It is asked from now on, after those that were registered before it."""
        self._parts.append(part)

    async def __call__(self) -> Reloaded:
        """Take what can be taken. Raises Problem; then nothing has changed.

        Cancelled: nothing has changed, or everything.
        """
        async with self._one:
            new = await trio.to_thread.run_sync(self.loaded.again, limiter=self._thread)
            live = set(self.loaded.live_with(new))
            differing = self.loaded.differing(new)
            merged = self.loaded.taking(new)
            changes = [await trio.to_thread.run_sync(part, merged, limiter=self._thread) for part in self._parts]
            for change in changes:
                change.take()
            self.loaded = merged
        renewed = {key for change in changes for key in change.renewed}
        reloaded = Reloaded(
            changed=[key for key in settings_keys() if key in renewed or (key in differing and key in live)],
            needs_restart=[key for key in differing if key not in live],
            unknown=list(merged.unknown),
        )
        log.info("reloaded", changed=reloaded.changed, needs_restart=reloaded.needs_restart)
        return reloaded
