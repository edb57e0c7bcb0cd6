"""Removing what an engine left in a folder of its own, whatever that is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

__all__ = ["remove"]

FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(folder: Path) -> None:
    """Remove `folder` and all that is in it. Links are removed, never followed.

    Folders that forbid it are made writable: caches of package managers are such. None is too deep: each is moved up
    into one new folder beside `folder`, `<name>.<random>`, before it is emptied (the kernel takes no path of more than
    4,096 bytes, and shutil recurses before Python 3.13).

    Blocks. Raises the first OSError after the removal of all else; what is left is in the new folder.
    """
    try:
        beside = _beside(folder)
    except OSError:  # a full disk has no room for it, and is to get some
        with suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        beside = _beside(folder)
    try:
        with _Opened(beside) as room, _Opened(folder.parent) as above:
            removal = _Removal(room)
            removal.take(folder.name, above)
            removal.go_on()
    finally:
        with suppress(OSError):  # it is not empty, and why has been told
            beside.rmdir()


def _beside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))


class _Opened:
    def __init__(self, name: str | Path, above: int | None = None, how: int = os.O_RDONLY) -> None:
        self._fd = os.open(name, how | FOLDER, dir_fd=above)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Removal:
    """`room`: the open folder with those that wait to be emptied, by number."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._taken = 0
        self._waiting: list[str] = []
        self._failed: OSError | None = None

    def take(self, name: str, above: int) -> None:
        """Move a folder into the room."""
        with _Opened(name, above, os.O_PATH) as folder, suppress(PermissionError):  # of somebody else's
            Path(f"/proc/self/fd/{folder}").chmod(0o700)
        number = str(self._taken)
        os.rename(name, number, src_dir_fd=above, dst_dir_fd=self._room)
        self._taken += 1
        self._waiting.append(number)

    def go_on(self) -> None:
        while self._waiting:
            name = self._waiting.pop()
            self._try(self._empty, name)
            self._try(partial(os.rmdir, dir_fd=self._room), name)
        if self._failed is not None:
            raise self._failed

    def _empty(self, name: str) -> None:
        with _Opened(name, self._room) as folder:
            with os.scandir(folder) as found:
                entries = list(found)
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self._try(partial(self.take, above=folder), entry.name)
                else:
                    self._try(partial(os.unlink, dir_fd=folder), entry.name)

    def _try(self, what: Callable[[str], None], name: str) -> None:
        try:
            what(name)
        except OSError as error:
            self._failed = self._failed or error
