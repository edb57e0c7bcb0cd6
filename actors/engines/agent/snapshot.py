"""Snapshots of a directory: what every file held, kept by content, so that what has not changed costs nothing.

A snapshot is a list of what there was, `[what, path, mode, ...]`, and its contents are files named by their SHA-256,
shared with all other snapshots: cloned where the disk can (FICLONE), else copied, never linked, since who writes into a
linked file writes into the snapshot. A file that is as it was at the last look (inode, size, times) is not read again.

What is called `.git` is left alone, here and when going back: a person's commits, branches and index are theirs. So are
links (kept as links, never followed), and what is neither file, link nor directory. Everything is opened from the
directory before it. Disk work: call it in a thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import fnmatch
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Contents", "Item", "TooLarge", "go_back", "take"]

FICLONE = 0x40049409
"""ioctl_ficlonerange(2)."""
SMALL_BYTES = 1 << 16
"""Such files are read, and copied only when nobody has their content yet; larger ones are cloned."""
DEPTH = 200
"""How many directories within each other a snapshot may hold: each is open while those in it are looked at."""
RACY_NS = 2 * 10**9
"""A file that changed so shortly before a look may change again and not show it (git calls such "racily clean")."""

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class TooLarge(ValueError):
    """More than a snapshot may hold; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Item:
    """`what`: `d` a directory, `f` a file, `l` a link. `seen`: by what a file is known to be unchanged."""

    what: str
    path: str
    mode: int = 0
    sha256: str = ""
    target: str = ""
    seen: tuple[int, ...] = ()

    def dump(self) -> list[Any]:
        return [self.what, self.path, self.mode, self.sha256, self.target, list(self.seen)]

    @staticmethod
    def load(value: Sequence[Any]) -> Item:
        what, path, mode, sha256, target, seen = value
        return Item(what, path, mode, sha256, target, tuple(seen))


class Contents:
    """The contents of files, in a folder of ours, by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def keep(self, source: int, most_bytes: int) -> str:
        """Keep what this open file holds; its digest. Raises TooLarge."""
        small = b""
        if os.fstat(source).st_size <= SMALL_BYTES:
            small = os.read(source, SMALL_BYTES + 1)
            if len(small) <= SMALL_BYTES:
                sha256 = hashlib.sha256(small).hexdigest()
                if not self.path(sha256).exists():
                    with self._new() as kept:
                        kept.write(small)
                        self._name(kept, sha256)
                return sha256
            os.lseek(source, 0, os.SEEK_SET)  # it grew meanwhile
        with self._new() as kept:
            _copy(source, kept, most_bytes)
            sha256 = _digest(kept)
            self._name(kept, sha256)
        return sha256

    @contextlib.contextmanager
    def _new(self) -> Iterator[BinaryIO]:
        """A file that is gone afterwards, unless it was named."""
        new = self._folder / f"{secrets.token_hex(8)}.new"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(new, "x+b", opener=_private) as kept:
                yield kept
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _name(self, kept: BinaryIO, sha256: str) -> None:
        kept.flush()
        path = self.path(sha256)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        Path(kept.name).replace(path)

    def sync(self) -> None:
        """Have all of it on the disk: one call, where one for each file would take minutes (syncfs(2))."""
        if self._folder.exists():
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _libc.syncfs(descriptor):
                    raise OSError(ctypes.get_errno(), "the snapshot could not be written to the disk")
            finally:
                os.close(descriptor)

    def sweep(self, needed: Iterable[str]) -> None:
        """Remove what no snapshot holds any more."""
        known = set(needed)
        if self._folder.exists():
            for path in self._folder.glob("*/*"):
                if path.name not in known:
                    path.unlink()
            for path in self._folder.glob("*.new"):  # of a look that was killed
                path.unlink()


@dataclass(slots=True)
class Look:
    """One walk through a directory. `known`: the files of the last one, and since when they are known."""

    contents: Contents
    excluded: Sequence[str]
    known: Mapping[str, Item]
    known_ns: int
    most_files: int
    most_bytes: int
    items: list[Item] = field(default_factory=list)
    size: int = 0

    def folder(self, descriptor: int, above: str) -> None:
        if above.count("/") > DEPTH:
            raise TooLarge(f"it holds more than {DEPTH} directories within each other")
        for name, looked in _names(descriptor, above, self.excluded):
            path = f"{above}{name}"
            if stat.S_ISDIR(looked.st_mode):
                self._add(Item("d", path, stat.S_IMODE(looked.st_mode)))
                with contextlib.suppress(FileNotFoundError), _opened(name, FOLDER, descriptor) as deeper:
                    self.folder(deeper, f"{path}/")
            elif stat.S_ISLNK(looked.st_mode):
                with contextlib.suppress(FileNotFoundError):
                    self._add(Item("l", path, target=os.readlink(name, dir_fd=descriptor)))
            elif stat.S_ISREG(looked.st_mode):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    self._file(descriptor, name, path)

    def _file(self, above: int, name: str, path: str) -> None:
        with _opened(name, READ, above) as descriptor:
            looked = os.fstat(descriptor)
            self.size += looked.st_size
            if self.size > self.most_bytes:
                raise TooLarge(f"it holds more than {self.most_bytes} bytes")
            seen = _seen(looked)
            before = self.known.get(path)
            if before is not None and before.seen == seen and looked.st_ctime_ns < self.known_ns - RACY_NS:
                sha256 = before.sha256
            else:
                sha256 = self.contents.keep(descriptor, self.most_bytes)
        self._add(Item("f", path, stat.S_IMODE(looked.st_mode), sha256, seen=seen))

    def _add(self, item: Item) -> None:
        self.items.append(item)
        if len(self.items) > self.most_files:
            raise TooLarge(f"it holds more than {self.most_files} files")


def take(
    root: int,
    contents: Contents,
    *,
    excluded: Sequence[str] = (),
    before: Iterable[Item] = (),
    before_ns: int = 0,
    most_files: int,
    most_bytes: int,
) -> tuple[list[Item], int]:
    """Look at the directory that `root` is open on, and keep what its files hold, durably: what there is, and how many
    bytes. `before`, `before_ns`: an earlier look, and when it began (Unix time). Raises TooLarge, OSError.
    """
    known = {item.path: item for item in before if item.what == "f"}
    look = Look(contents, excluded, known, before_ns, most_files, most_bytes)
    look.folder(root, "")
    contents.sync()
    return look.items, look.size


def go_back(
    root: int, contents: Contents, items: Sequence[Item], *, taken_ns: int, excluded: Sequence[str] = ()
) -> int:
    """Make the directory what it was at that look; how many files, links and directories that changed.

    Every content is looked for before anything is touched. What was excluded stays as it is. Raises OSError, also for
    content that is not what it was (EIO); then the directory may be neither the one nor the other, and the same call
    can be made again.
    """
    for item in items:
        if item.what == "f" and not contents.path(item.sha256).exists():
            raise FileNotFoundError(errno.ENOENT, "the snapshot has lost a content", item.path)
    wanted: dict[str, dict[str, Item]] = {"": {}}
    for item in items:
        above, _, name = item.path.rpartition("/")
        wanted.setdefault(above, {})[name] = item
        if item.what == "d":
            wanted.setdefault(item.path, {})
    return _Back(contents, wanted, excluded, taken_ns).folder(root, "")


@dataclass(slots=True)
class _Back:
    contents: Contents
    wanted: Mapping[str, Mapping[str, Item]]
    excluded: Sequence[str]
    taken_ns: int

    def folder(self, descriptor: int, above: str) -> int:
        wanted = self.wanted.get(above.rstrip("/"), {})
        changed = 0
        for name, looked in list(_names(descriptor, above, self.excluded)):
            item = wanted.get(name)
            if item is None or item.what != _what(looked):
                changed += self._remove(descriptor, name, above, looked)
        for name, item in wanted.items():
            match item.what:
                case "d":
                    changed += self._folder(descriptor, name, item, above)
                case "l":
                    changed += self._link(descriptor, name, item)
                case _:
                    changed += self._file(descriptor, name, item)
        return changed

    def _remove(self, above: int, name: str, path: str, looked: os.stat_result) -> int:
        """What is left alone keeps the directories that it is in."""
        if path.count("/") > DEPTH:
            raise OSError(errno.ELOOP, f"more than {DEPTH} directories within each other, to be removed by hand", path)
        if stat.S_ISDIR(looked.st_mode):
            changed = 0
            with _opened(name, FOLDER, above) as deeper:
                for inner, found in list(_names(deeper, f"{path}{name}/", self.excluded)):
                    changed += self._remove(deeper, inner, f"{path}{name}/", found)
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                return changed
            return changed + 1
        if not _what(looked):
            return 0
        os.unlink(name, dir_fd=above)
        return 1

    def _folder(self, above: int, name: str, item: Item, path: str) -> int:
        changed, made = 0, not _exists(above, name)
        if made:
            os.mkdir(name, 0o700, dir_fd=above)
        with _opened(name, FOLDER, above) as deeper:
            mode = stat.S_IMODE(os.fstat(deeper).st_mode)
            if mode & 0o700 != 0o700:
                os.fchmod(deeper, mode | 0o700)
            changed += self.folder(deeper, f"{path}{name}/")
            if stat.S_IMODE(os.fstat(deeper).st_mode) != item.mode:
                os.fchmod(deeper, item.mode)
            made = made or mode != item.mode
        return changed + made

    def _link(self, above: int, name: str, item: Item) -> int:
        if _exists(above, name):
            if os.readlink(name, dir_fd=above) == item.target:
                return 0
            os.unlink(name, dir_fd=above)
        os.symlink(item.target, name, dir_fd=above)
        return 1

    def _file(self, above: int, name: str, item: Item) -> int:
        with contextlib.suppress(FileNotFoundError), _opened(name, READ, above) as descriptor:
            looked = os.fstat(descriptor)
            same = _seen(looked) == item.seen and looked.st_ctime_ns < self.taken_ns - RACY_NS
            if not same and looked.st_size == item.seen[1]:
                with open(descriptor, "rb", closefd=False) as file:
                    same = _digest(file) == item.sha256
            if same:
                if stat.S_IMODE(looked.st_mode) == item.mode:
                    return 0
                os.fchmod(descriptor, item.mode)
                return 1
        new = f".{secrets.token_hex(8)}.new"
        opener = partial(_private, above=above)
        try:
            with (
                self.contents.path(item.sha256).open("rb") as kept,
                open(new, "x+b", opener=opener) as file,
            ):
                _copy(kept.fileno(), file, sys.maxsize)
                if _digest(file) != item.sha256:
                    raise OSError(errno.EIO, "the snapshot is damaged", item.path)
                os.fchmod(file.fileno(), item.mode)
                os.utime(file.fileno(), ns=(item.seen[2], item.seen[2]))
            os.replace(new, name, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=above)
            raise
        return 1


def _names(descriptor: int, above: str, excluded: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a directory and not left alone. A pattern with a slash before it is one of whole paths alone."""
    with os.scandir(descriptor) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{above}{name}"
        if name == ".git" or any(fnmatch.fnmatchcase(one, two) for two in excluded for one in (path, name, f"/{path}")):
            continue
        with contextlib.suppress(FileNotFoundError):
            yield name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)


def _what(looked: os.stat_result) -> str:
    if stat.S_ISDIR(looked.st_mode):
        return "d"
    return "l" if stat.S_ISLNK(looked.st_mode) else "f" if stat.S_ISREG(looked.st_mode) else ""


def _seen(looked: os.stat_result) -> tuple[int, ...]:
    return looked.st_ino, looked.st_size, looked.st_mtime_ns, looked.st_ctime_ns


def _exists(above: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _opened(name: str, flags: int, above: int) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _private(path: str, flags: int, *, above: int | None = None) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=above)


def _digest(file: BinaryIO) -> str:
    """Of all that it holds, whatever was written or read before."""
    file.flush()
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it reads, and that is all


def _copy(source: int, into: BinaryIO, most_bytes: int) -> None:
    """All that a file holds, into an empty one. It may grow meanwhile. Raises TooLarge."""
    if os.fstat(source).st_size > SMALL_BYTES:
        with contextlib.suppress(OSError):
            fcntl.ioctl(into.fileno(), FICLONE, source)
            return
    while data := os.read(source, 1 << 20):
        if (most_bytes := most_bytes - len(data)) < 0:
            raise TooLarge("a file in it grows without an end")
        into.write(data)
