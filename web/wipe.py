"""Secrets in our own environment, taken out of where the kernel shows them.

`/proc/<pid>/environ` shows the memory in which a program's first environment was, for as long as the program lives
(proc_pid_environ(5)), to everything that runs as the same user: so also to programs of engines, which are given a list
of names and not these. What is wiped there is still in `os.environ`, which Python copied at its start.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Collection, Iterator, Mapping

from actors.children import SECRETIVE

__all__ = ["secretive", "wipe"]

_USERINFO = re.compile(r"://[^/@\s]+@")


def secretive(environ: Mapping[str, str], granted: Collection[str]) -> Iterator[str]:
    """The names whose values nobody may read who was not given them: those that look like it, those whose value is an
    address with a password, and `granted`, which configs of engines may refer to.
    """
    for name, value in environ.items():
        if value and (name in granted or SECRETIVE.search(name) or _USERINFO.search(value)):
            yield name


def wipe(names: Collection[str]) -> None:
    """Overwrite the values of these in the first environment. Call it before anything is started."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype, getenv.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    for name in names:
        place, value = getenv(os.fsencode(name)), os.environb.get(os.fsencode(name), b"")
        if place and ctypes.string_at(place) == value:
            ctypes.memset(place, 0, len(value))
