"""A disk that can lose its power or break, as a VFS of SQLite (https://sqlite.org/vfs.html).

Every write reaches the real file, so SQLite goes on unharmed. Beside it the disk remembers what was synced and what was
not, and `cut` writes down what a power cut at this moment could leave: of each unsynced write all, nothing, or some of
its sectors, each independently of the others, so the order of writes means nothing without a sync between them.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SECTOR_BYTES = 512

_names = itertools.count()


@dataclass
class _Image:
    """One file: its bytes as of the last sync, then (offset, bytes) of each write and (size, None) of each truncate."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for offset, data in self.since:
            _apply(self.synced, offset, data)
        self.since.clear()

    def left(self, chance: random.Random) -> bytearray:
        content = bytearray(self.synced)
        for offset, data in self.since:
            fate = chance.choice(("kept", "lost", "torn"))
            if fate == "kept":
                _apply(content, offset, data)
            elif fate == "torn" and data is not None:
                for start in range(0, len(data), SECTOR_BYTES):
                    if chance.random() < 0.5:
                        _apply(content, offset + start, data[start : start + SECTOR_BYTES])
        return content


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    else:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """The default VFS from its making to `unregister`. `before(operation, path)` is called before each write, truncate
    and sync, in the thread that does it; what it raises is the operation's outcome.
    """

    def __init__(self, before: Callable[[str, str], None] = lambda operation, path: None) -> None:
        self.before = before
        self._images: dict[str, _Image] = {}
        self._lock = threading.RLock()
        super().__init__(f"disk-{next(_names)}", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802 - SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self, path or "", name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name and signature
        with self._lock:
            self._images.pop(filename, None)
        super().xDelete(filename, syncdir)

    def note(self, operation: str, path: str, change: tuple[int, bytes | None] | None) -> None:
        with self._lock:
            self.before(operation, path)
            image = self._images.setdefault(path, _Image())
            if change is None:
                image.sync()
            else:
                image.since.append(change)

    def cut(self, chance: random.Random, folder: Path) -> None:
        """What the power leaves, as files of the same names in `folder`."""
        with self._lock:
            folder.mkdir()
            for path, image in self._images.items():
                (folder / Path(path).name).write_bytes(image.left(chance))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name, as below
        self._disk.note("write", self._path, (offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.note("truncate", self._path, (newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.note("sync", self._path, None)  # the real file is synced never: nobody cuts its power


@contextmanager
def inserted(disk: Disk) -> Iterator[Disk]:
    try:
        yield disk
    finally:
        disk.unregister()


def broken(code: int) -> Exception:
    """The error with which a VFS answers SQLite."""
    error = apsw.exception_for(code)
    error.args = ("disk I/O error",)
    return error
