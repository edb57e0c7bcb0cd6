"""The files beneath an agent's directory: read, written and compared; never through a link, never outside.

Each is opened from the directory before it (`actors/beneath.py`), so what was looked at is what is used. A file is
written beside itself and renamed, so nobody sees half of it, and a hard link that leads elsewhere is left behind. Disk
work: call it in a thread.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import posixpath
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.beneath import descend, workspace_directory
from actors.children import ChildPolicy, Place, beneath

__all__ = ["FILE_BYTES", "Files", "Found", "Refused", "diff"]

FILE_BYTES = 2 << 20
"""How large a file may be that is read or written."""
LISTED = 1000
CONTEXT = 3
COMPARED = 1 << 24
"""How many pairs of lines a difference is looked for in: a second or two."""
HUNK = re.compile(r"@@ -(\d+)(.*) \+(\d+)(.*)")
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(Exception):
    """It was not done; the sentence is for the model. `missing`: because it is not there."""

    def __init__(self, sentence: str, *, missing: bool = False) -> None:
        super().__init__(sentence)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Found:
    """A file's text, and the digest of its bytes; None: there is no file."""

    text: str | None
    sha256: str | None


class Files:
    """See the module. Paths are relative to the directory, or absolute and beneath it."""

    def __init__(self, place: Place, policy: ChildPolicy) -> None:
        self._place, self._policy = place, policy

    @property
    def root(self) -> str:
        return self._place.path

    def private(self) -> tuple[str, ...]:
        """What of the house's own lies in the directory, as paths from there. Reads the disk."""
        root = os.path.realpath(self.root)
        folders = map(os.path.realpath, self._policy.private)
        return tuple(os.path.relpath(folder, root) for folder in folders if beneath(folder, root))

    def absolute(self, path: str) -> str:
        """Raises Refused for one outside."""
        return posixpath.join(self.root, *self._steps(path))

    def check(self) -> None:
        """Raises Refused when the directory cannot be used."""
        with self.directory(()):
            pass

    @contextmanager
    def directory(self, steps: Sequence[str]) -> Iterator[int]:
        """A descriptor of the directory that so many steps lead to. Raises Refused."""
        place = self._place
        try:
            if place.links:
                found = descend(place.path, steps)
            elif place.made:
                root = workspace_directory(place.root, place.beneath[0])
                os.close(root)
                found = descend(place.root, (*place.beneath, *steps))
            else:
                found = descend(place.root, (*place.beneath, *steps))
        except OSError as error:
            raise _refused(error, "/".join(steps) or self.root) from None
        try:
            # Asked of the kernel, so that no link above the directory leads into what is the house's own.
            if self._policy.owns(str(Path(f"/proc/self/fd/{found}").readlink())):
                raise Refused(f"{self.root} is the house's own directory; nothing is read or written there.")
            yield found
        finally:
            os.close(found)

    def read(self, path: str) -> str:
        """The text of a file, or the names in a directory, those of directories with a slash. Raises Refused."""
        steps = self._steps(path)
        with self._above(steps) as (above, name):
            try:
                if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                    return self._names(steps)
            except OSError as error:
                raise _refused(error, path) from None
            found = self._found(above, name, path)
        if found.text is None:
            raise Refused(f"There is no file {path}.")
        return found.text

    def find(self, path: str) -> Found:
        """What is there now, to be replaced. Raises Refused for what is no text file, or cannot be looked at."""
        steps = self._steps(path)
        try:
            with self._above(steps) as (above, name):
                return self._found(above, name, path)
        except Refused as refused:
            if refused.missing:  # its directory will be made
                return Found(None, None)
            raise

    def write(self, path: str, text: str, *, over: str | None) -> None:
        """Have the file hold this text, its directory made where it is not there. `over`: the digest of what it held
        when this was decided. Raises Refused: it holds something else by now, or the disk says no.
        """
        data = text.encode()
        if len(data) > FILE_BYTES:
            raise Refused(f"A file is at most {FILE_BYTES} bytes; this would be {len(data)}.")
        steps = self._steps(path)
        self._make(steps[:-1])
        try:
            with self._above(steps) as (above, name):
                if self._found(above, name, path).sha256 != over:
                    raise Refused(f"{path} was changed by somebody else meanwhile; nothing was written. Read it again.")
                mode = 0o666 & ~self._policy.umask
                with contextlib.suppress(FileNotFoundError):
                    mode = stat.S_IMODE(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
                _replace(above, name, data, mode)
        except OSError as error:
            raise _refused(error, path) from None

    # -- within ------------------------------------------------------------------------------------------------------
    def _steps(self, path: str) -> list[str]:
        if not path or "\0" in path:
            raise Refused("A path is needed, without NUL characters.")
        whole = posixpath.normpath(posixpath.join(self.root, path))
        if not beneath(whole, self.root):
            raise Refused(f"{path} is outside of {self.root}; only what is beneath it can be used.")
        return [step for step in whole[len(self.root.rstrip("/")) :].split("/") if step]

    @contextmanager
    def _above(self, steps: Sequence[str]) -> Iterator[tuple[int, str]]:
        """The directory of what the steps lead to, and its name there."""
        with self.directory(steps[:-1]) as found:
            yield found, steps[-1] if steps else "."

    def _found(self, above: int, name: str, path: str) -> Found:
        try:
            descriptor = os.open(name, READ, dir_fd=above)
        except FileNotFoundError:
            return Found(None, None)
        except OSError as error:
            raise _refused(error, path) from None
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            looked = os.fstat(descriptor)
            if not stat.S_ISREG(looked.st_mode):
                raise Refused(f"{path} is no file.")
            if looked.st_size > FILE_BYTES:
                raise Refused(f"{path} has {looked.st_size} bytes; the limit is {FILE_BYTES}.")
            data = file.read(FILE_BYTES + 1)
        if len(data) > FILE_BYTES:
            raise Refused(f"{path} grows beyond {FILE_BYTES} bytes.")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise Refused(f"{path} is binary, or not in UTF-8: it is neither shown nor changed.")
        return Found(text, hashlib.sha256(data).hexdigest())

    def _names(self, steps: Sequence[str]) -> str:
        with self.directory(steps) as found, os.scandir(found) as entries:
            names = sorted(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries)
        more = f"\n[{len(names) - LISTED} more]" if len(names) > LISTED else ""
        return "\n".join(names[:LISTED]) + more

    def _make(self, steps: Sequence[str]) -> None:
        for depth in range(len(steps)):
            with self.directory(steps[:depth]) as above, contextlib.suppress(FileExistsError):
                try:
                    os.mkdir(steps[depth], 0o777 & ~self._policy.umask, dir_fd=above)
                except FileExistsError:
                    continue
                except OSError as error:
                    raise _refused(error, "/".join(steps[: depth + 1])) from None


def diff(path: str, before: str | None, after: str) -> str:
    """What changes, as a unified diff. Where much of a long text has changed, all from the first change to the last is
    one change: to compare each line with each could take hours.
    """
    old, new = (before or "").splitlines(keepends=True), after.splitlines(keepends=True)
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    above, below = min(begin, CONTEXT), min(end, CONTEXT)
    skipped = begin - above
    if before is not None and begin == len(old) == len(new):
        return ""
    old, new = old[skipped : len(old) - end + below], new[skipped : len(new) - end + below]
    if len(old) * len(new) <= COMPARED:
        lines = list(difflib.unified_diff(old, new, n=CONTEXT))[2:]
    else:
        minus, plus = old[above : len(old) - below], new[above : len(new) - below]
        lines = [f"@@ -1,{len(old)} +1,{len(new)} @@\n", *(f" {line}" for line in old[:above])]
        lines += [*(f"-{line}" for line in minus), *(f"+{line}" for line in plus)]
        lines += [f" {line}" for line in old[len(old) - below :]]
    for number, line in enumerate(lines):
        if at := HUNK.match(line):
            lines[number] = f"@@ -{int(at[1]) + skipped}{at[2]} +{int(at[3]) + skipped}{at[4]}\n"
    if lines:
        lines = [f"--- {'/dev/null' if before is None else f'a/{path}'}\n", f"+++ b/{path}\n", *lines]
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _alike(some: Sequence[str], others: Sequence[str]) -> int:
    """How many lines at the beginning are the same."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(some), len(others)))


def _replace(above: int, name: str, data: bytes, mode: int) -> None:
    new = f".{secrets.token_hex(8)}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=above)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, name, src_dir_fd=above, dst_dir_fd=above)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=above)
        raise


def _refused(error: OSError, path: str) -> Refused:
    if error.errno == errno.ELOOP:
        return Refused(f"{path} is, or leads through, a link; links are not followed.")
    if error.errno == errno.ENXIO:
        return Refused(f"{path} is no file.")
    return Refused(f"{path}: {error.strerror}.", missing=error.errno == errno.ENOENT)
