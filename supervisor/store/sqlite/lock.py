"""One owner per file: an advisory lock beside the database, held from open to close.

A file of its own, because closing any descriptor of the database would drop SQLite's locks on it (fcntl(2)); flock(2),
because the kernel releases it when the owner dies, however it dies (and with it all that it forked without an exec,
which share the descriptor). The file stays: removing it would let two owners in, one on the old file and one on the
new.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from protocol.errors import StoreUnavailable

__all__ = ["acquire"]


def acquire(path: Path) -> int:
    """The descriptor that holds the lock; close it to let go. StoreUnavailable names the process that has it."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise StoreUnavailable(f"{path} is in use by process {holder}; stop it or name another file.") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
