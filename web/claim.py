"""The state folder: ours alone, made when it is missing, and held by one daemon at a time."""

from __future__ import annotations

import fcntl
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from web.loaded import Loaded
from web.places import DaemonFile, Problem

__all__ = ["Refused", "held", "other", "prepare"]


class Refused(Exception):
    """The daemon does not start: exit code 69, and why."""


def prepare(state: Path) -> None:
    """A folder of ours alone, and as many descriptors as we may have. Raises Problem."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if state.stat().st_uid != os.geteuid():
            raise Problem(f"{state}: the state folder belongs to another user; name one of your own with state_dir.")
        state.chmod(0o700)
    except OSError as error:
        raise Problem(
            f"{state}: the state folder cannot be made ({error.strerror}); name another with state_dir."
        ) from None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def held(state: Path) -> Iterator[bool]:
    """Whether the folder is ours now. The kernel gives the lock back when we die, however we die (flock(2))."""
    with (state / "daemon.lock").open("a") as file:
        if not _locked(file):
            yield False
            return
        DaemonFile.remove(state)  # of one that was killed
        yield True


def _locked(file: IO[str]) -> bool:
    """Tried a few times: a command that looks whether a daemon is here has it for a moment (`DaemonFile.live`)."""
    for _ in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def other(loaded: Loaded, state: Path) -> DaemonFile:
    """Another daemon holds the folder: it is the answer, unless another address was asked for. Raises Refused."""
    for _ in range(50):
        daemon = DaemonFile.read(state)
        if daemon is not None:
            break
        time.sleep(0.1)  # it has not got so far yet
    else:
        raise Refused(
            f"Another daemon holds {state} and does not say where it is; look into its log in {state / 'logs'}."
        )
    server = loaded.settings.server
    there = urlsplit(daemon.url)
    port = server.port if loaded.explicit("server.port") and server.port else there.port
    host = server.host if loaded.explicit("server.host") else there.hostname
    if (host, port) != (there.hostname, there.port):
        raise Refused(
            f"The daemon of {state} runs at {daemon.url} (pid {daemon.pid}); stop it, or name another state_dir."
        )
    return daemon
