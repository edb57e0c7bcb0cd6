"""The one secret that all webhook secrets are derived from: 32 random bytes in a file of our own."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from web.places import Problem

__all__ = ["webhook_key"]

SIZE: Final = 32


def webhook_key(path: Path) -> bytes:
    """The key in the file `path`, which is created when there is none (0600).

    Raises:
        Problem: it is not ours alone, no plain file, or not 32 bytes long.

    """
    try:
        if not path.is_symlink() and not path.exists():
            _create(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Problem(f"{path}: the webhook key cannot be read or created ({error.strerror}).") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise Problem(f"{path}: the webhook key must be a plain file that only the user who runs the house reads.")
        key = os.read(fd, SIZE + 1)
    finally:
        os.close(fd)
    if len(key) != SIZE:
        raise Problem(f"{path}: the webhook key must be {SIZE} bytes; remove the file to get a new one.")
    return key


def _create(path: Path) -> None:
    """Linked into place whole: a crash leaves no half of a key behind, and an existing one is never replaced."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
            file.flush()
            os.fsync(fd)
        os.link(draft, path)
    except FileExistsError:
        pass  # somebody was faster; theirs is checked like any other
    finally:
        draft.unlink()
