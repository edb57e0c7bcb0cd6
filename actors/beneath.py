"""Beneath a directory, whatever somebody does to the names in it meanwhile.

Every step is opened from the directory before it and must not be a link, so nobody can lead the way out by exchanging
one, however quick; and no step is `..`. What is opened is what is used, never its name again. Plain openat(2) rather
than openat2 with RESOLVE_BENEATH, which containers often refuse: with one name at a time both say the same.

The helper program uses this between fork and exec, so nothing heavy is imported.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence

__all__ = ["descend", "workspace_directory"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NAME_BYTES = 64
LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def descend(root: str | bytes, steps: Sequence[str | bytes]) -> int:
    """A descriptor of the directory that so many steps below `root` lead to; the caller closes it.

    The links in `root` itself are followed: it is the operator's. Raises OSError: ELOOP for a link below it, EINVAL for
    a step that is no name, and what opening says.
    """
    found = os.open(root, DIRECTORY)
    for step in steps:
        try:
            _check(step)
            deeper = _step(found, step)
        finally:
            os.close(found)
        found = deeper
    return found


def workspace_directory(root: str | bytes, name: str | bytes) -> int:
    """A descriptor of the workspace of this name below `root`; both are made, ours alone, when they are not there.

    Raises OSError: EINVAL for a name that is not allowed (`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`), ELOOP for a link in
    its place, and what making and opening say.
    """
    word = os.fsencode(name)
    if not word or len(word) > NAME_BYTES or word[0] not in LETTERS or set(word) - LETTERS - set(b"._-"):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.makedirs(root, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib is too heavy for the helper
    above = os.open(root, DIRECTORY)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(word, 0o700, dir_fd=above)
        return _step(above, word)
    finally:
        os.close(above)


def _step(above: int, name: str | bytes) -> int:
    try:
        return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except NotADirectoryError:
        # With O_DIRECTORY a link is reported as what it is not, a directory; say what it is.
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


def _check(step: str | bytes) -> None:
    if step in ("", ".", "..", b"", b".", b"..") or b"/" in os.fsencode(step) or b"\0" in os.fsencode(step):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
