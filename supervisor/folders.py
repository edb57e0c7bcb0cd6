"""The folders that engines have for files of their own, by uid: made when asked for, removed once they are disposed.

A house that is killed between the one and the other sweeps when it starts again.
"""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from actors.removal import remove
from protocol.states import State

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Folders"]


class Folders:
    """See the module."""

    def __init__(self, house: Supervisor) -> None:
        self._house = house
        self._root = house.directory / "engines"

    def of(self, uid: str) -> Path:
        return self._root / uid

    def forget(self, uid: str) -> None:
        """The engine is disposed."""
        if self.of(uid).exists():
            self._remove([self.of(uid)])

    def sweep(self) -> None:
        """Remove what belongs to nobody any more."""
        if self._root.exists():
            views = self._house.views
            lives = {uid for uid, view in views.items() if view.state is not State.DISPOSED}
            self._remove([folder for folder in self._root.iterdir() if folder.name not in lives])

    def _remove(self, folders: list[Path]) -> None:
        if folders:
            self._house.start(partial(self._removed, folders), "removing folders")

    async def _removed(self, folders: list[Path]) -> None:
        """What cannot be removed now stays for the next sweep."""
        for folder in folders:
            with contextlib.suppress(OSError):
                if self._house.threads:
                    await trio.to_thread.run_sync(remove, folder, limiter=self._house.disk)
                else:
                    remove(folder)
