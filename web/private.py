"""Files that hold a secret: ours alone, or not used at all.

They are made whole (a draft is linked into place, so that a crash leaves nothing empty behind and what is there is
never replaced by accident) and looked at through the descriptor that is read, so that nothing can be swapped between
the look and the read.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from web.places import Problem

__all__ = ["create_private", "read_private", "replace_private"]

_LIMIT_BYTES: Final = 8192


def read_private(path: Path, what: str) -> bytes:
    """What the file holds, at most 8 KiB.

    Args:
        path: a plain file of 0600 or less that belongs to us, in a folder where nobody else can put another.
        what: the secret in words, for the sentence (`the admin key`).

    Raises:
        Problem: it is not there, not readable, or not ours alone.

    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_file(path, os.fstat(fd), what)
            _check_folder(path, path.parent.stat(), what)
            content = os.read(fd, _LIMIT_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise Problem(f"{path}: {what} cannot be read or created ({error.strerror}).") from error
    if len(content) > _LIMIT_BYTES:
        raise Problem(f"{path}: {what} cannot be so large; remove the file to get a new one.")
    return content


def create_private(path: Path, content: Callable[[], bytes], what: str) -> None:
    """Make the file (0600) with `content` unless something is there already.

    Raises:
        Problem: it cannot be made.

    """
    try:
        if path.is_symlink() or path.exists():
            return
        draft = _drafted(path, content())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # somebody was faster; theirs is checked like any other
        finally:
            draft.unlink()
        _sync(path.parent)
    except OSError as error:
        raise Problem(f"{path}: {what} cannot be read or created ({error.strerror}).") from error


def replace_private(path: Path, content: bytes, what: str) -> None:
    """Put `content` in the place of what is there, in one step that survives a crash. Raises Problem."""
    try:
        draft = _drafted(path, content)
        try:
            draft.replace(path)
        except OSError:
            draft.unlink()
            raise
        _sync(path.parent)
    except OSError as error:
        raise Problem(f"{path}: {what} cannot be written ({error.strerror}).") from error


def _check_file(path: Path, status: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Problem(f"{path}: {what} must be a plain file.")
    if status.st_uid != os.geteuid():
        raise Problem(f"{path}: {what} must belong to the user who runs the house.")
    if status.st_mode & 0o077:
        raise Problem(f"{path}: others may read {what}; make it private with chmod 600, or remove it.")


def _check_folder(path: Path, status: os.stat_result, what: str) -> None:
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise Problem(
            f"{path}: others may put another file in the place of {what}; make its folder private with chmod 700."
        )


def _drafted(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    return draft


def _sync(folder: Path) -> None:
    """The name is as durable as the bytes."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
