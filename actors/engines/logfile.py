"""What a program writes, kept in a file that never grows beyond its size: then it becomes the newest of some backups.

`stdout.log` is written, `stdout.log.1` came before it, `.2` before that; past the last backup it is forgotten. Files
are cut between two lines where that is possible. A reader's place is a file's number and an offset in it, so it finds
the file again when that has been renamed, and loses nothing that is still there.

A disk that fails costs log lines, and never the program: what could not be written is counted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from actors.beneath import descend
from actors.children import Absolute, ChildPolicy, Outside
from actors.engine import CannotStart, Config
from protocol.wire import LogPage

__all__ = ["LogFile", "Rotating", "read_log"]

MIB: Final = 1 << 20
FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LogFile(Config):
    """`path`: absolute; the engine's own folder when there is none. `max_bytes`: then the next file begins (0: never);
    `backups`: how many earlier ones are kept. `events`: whether its lines become `log.line` events too.
    """

    path: Absolute | None = None
    max_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 16 * MIB
    backups: Annotated[int, Field(ge=0, le=100)] = 5
    events: bool = True

    def place(self, own: Path, stream: str) -> Path:
        return Path(self.path) if self.path is not None else own / f"{stream}.log"

    def check(self, policy: ChildPolicy) -> None:
        """Raises Outside for a path where this house writes nothing. Reads the disk."""
        if self.path is not None:
            os.close(_folder(Path(self.path), policy))

    def opened(self, own: Path, stream: str, policy: ChildPolicy, lost: Callable[[str], None]) -> Rotating:
        """The file, to be written. Raises CannotStart."""
        path = self.place(own, stream)
        try:
            if self.path is None:
                own.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = self._folder(path, policy)
        except Outside as error:
            raise CannotStart(f"The log {str(path)!r} cannot be written: {error}.") from None
        try:
            return Rotating(folder, path.name, max_bytes=self.max_bytes, backups=self.backups, lost=lost)
        except OSError as error:
            os.close(folder)
            raise CannotStart(f"The log {str(path)!r} cannot be written: {error.strerror}.") from None

    def read(self, own: Path, stream: str, policy: ChildPolicy, after: str | None, limit: int) -> LogPage:
        """What it and its backups hold behind a place: at most `limit` bytes. No place: the last of it; "0": all.

        Reads the disk. Raises ValueError for what is no place, and Outside. A log that is not there yet is empty.
        """
        path = self.place(own, stream)
        if self.path is None and not own.exists():
            return LogPage(stream=stream, text="", next_after=after or "0")
        folder = self._folder(path, policy)
        try:
            return read_log(folder, path.name, stream, after, limit)
        finally:
            os.close(folder)

    def _folder(self, path: Path, policy: ChildPolicy) -> int:
        if self.path is not None:
            return _folder(path, policy)
        return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _folder(path: Path, policy: ChildPolicy) -> int:
    """A descriptor of the directory of a log that a config names. Raises Outside."""
    place = policy.place(str(path.parent))
    try:
        if place.links:
            folder = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            folder = descend(place.root, place.beneath)
    except OSError as error:
        raise Outside(f"the folder {str(path.parent)!r} cannot be used: {error.strerror}") from None
    if policy.owns(f"/proc/self/fd/{folder}"):  # where it is in truth, whatever its name was meanwhile
        os.close(folder)
        raise Outside(f"{str(path.parent)!r} is the house's own directory")
    return folder


class Rotating:
    """See the module.

    Args:
        folder: A descriptor of its directory, ours to close.
        name: Of the file in it.
        max_bytes: 0: it grows for ever.
        backups: 0: it is begun anew.
        lost: Told once, as a sentence, when something could not be written; again after it went well.
    """

    def __init__(self, folder: int, name: str, *, max_bytes: int, backups: int, lost: Callable[[str], None]) -> None:
        self._folder, self._name, self._lost = folder, name, lost
        self._max_bytes, self._backups = max_bytes, backups
        self._fd = -1
        self._failing = False
        self._open()

    def _open(self) -> None:
        """Raises OSError, also for what is there and is no file."""
        fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS, 0o600, dir_fd=self._folder)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise FileExistsError(17, "it is no file")
        self._fd, self._size, self._whole = fd, found.st_size, True

    def write(self, data: bytes) -> None:
        """Append. What cannot be written is lost, and told."""
        try:
            if self._fd < 0:
                self._open()
            self._write(data)
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._lost(f"The log {self._name} could not be written, and loses what comes: {error.strerror}.")
        else:
            self._failing = False

    def _write(self, data: bytes) -> None:
        while data:
            room = self._max_bytes - self._size if self._max_bytes else len(data)
            if len(data) <= room:
                self._append(data)
                return
            cut = data.rfind(b"\n", 0, max(room, 0)) + 1
            if not cut and room > 0 and (self._size == 0 or not self._whole):
                cut = room  # a line that is longer than the file may be
            self._append(data[:cut])
            data = data[cut:]
            self._rotate()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._size += count
            self._whole = view[count - 1] == 0x0A
            view = view[count:]

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        if self._backups == 0:
            os.unlink(self._name, dir_fd=self._folder)
        names = [self._name, *(f"{self._name}.{number}" for number in range(1, self._backups + 1))]
        for number in range(self._backups, 0, -1):
            with suppress(FileNotFoundError):
                os.rename(names[number - 1], names[number], src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._open()

    def close(self) -> None:
        """Idempotent."""
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1


PLACE: Final = re.compile(r"([0-9]{1,20})\.([0-9]{1,20})")


def read_log(folder: int, name: str, stream: str, after: str | None, limit: int) -> LogPage:
    """See `LogFile.read`; `folder`: a descriptor of the directory."""
    files = _files(folder, name)
    if not files:
        return LogPage(stream=stream, text="", next_after=after or "0")
    missed = False
    if after is None:
        at, offset = len(files) - 1, max(files[-1].size - limit, 0)
    elif after == "0":
        at, offset = 0, 0
    else:
        inode, offset = _place(after)
        found = [index for index, file in enumerate(files) if file.inode == inode and offset <= file.size]
        missed = not found
        at, offset = (found[0], offset) if found else (0, 0)
    data = b""
    while (piece := _piece(folder, files[at], offset, limit - len(data))) is not None:
        data, offset = data + piece, offset + len(piece)
        if at + 1 == len(files) or len(data) >= limit:
            break
        at, offset = at + 1, 0
    cut = _incomplete(data)
    text = data[: len(data) - cut].decode(errors="replace")
    place = f"{files[at].inode}.{max(offset - cut, 0)}"
    return LogPage(stream=stream, text=text, next_after=place, missed=missed)


@dataclass(frozen=True, slots=True, order=True)
class _File:
    """Sorts from the oldest to the newest."""

    age: int
    name: str
    inode: int
    size: int


def _files(folder: int, name: str) -> list[_File]:
    wanted = re.compile(re.escape(name) + r"(?:\.([0-9]{1,3}))?")
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            match = wanted.fullmatch(entry.name)
            with suppress(FileNotFoundError):
                if match and entry.is_file(follow_symlinks=False):
                    at = entry.stat(follow_symlinks=False)
                    found.append(_File(-int(match[1] or 0), entry.name, at.st_ino, at.st_size))
    return sorted(found)


def _piece(folder: int, file: _File, offset: int, limit: int) -> bytes | None:
    """None: it was renamed since."""
    try:
        fd = os.open(file.name, os.O_RDONLY | FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, limit, offset) if os.fstat(fd).st_ino == file.inode else None
    finally:
        os.close(fd)


def _place(after: str) -> tuple[int, int]:
    match = PLACE.fullmatch(after)
    if match is None:
        raise ValueError(f"{after!r} is no place in a log")
    return int(match[1]), int(match[2])


def _incomplete(data: bytes) -> int:
    """How many bytes at the end begin a character that has not come whole."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2) else 0
        if byte < 0x80:
            return 0
    return 0
