"""What a program is born into: its directory, limits and sandbox. Done by the program to be, between fork and exec.

Everything here narrows, and nothing can be undone by the program: limits are hard, no_new_privs and Landlock are for
ever and for all it starts. What cannot be done is an OSError, and the program does not start: there is no confinement
that was asked for and quietly left out.

Landlock has no wrapper in the C library; its three system calls have the same numbers on every architecture that has
it. What they take: landlock(7), linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import struct
from collections.abc import Callable, Iterable, Sequence

from actors.beneath import descend, workspace_directory

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38  # linux/prctl.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # the flag that asks which version of Landlock there is
_BENEATH = 1  # the type of a rule about all that is below a path
_libc = ctypes.CDLL(None, use_errno=True)

# linux/landlock.h; each name says what it lets a program do with what is below a path.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NETWORK_VERSION, _TCP = 4, 0b11  # bind and connect
SCOPE_VERSION, _SCOPES, _SIGNALS = 6, 0b11, 0b10  # abstract unix sockets, and signals to whoever is outside

NOFILE_SOFT = 1024
"""What programs expect; select(2) cannot do more. They may raise it themselves, to what the house has."""

FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix/store")
"""What a program in a sandbox may read and execute, as far as it is there: the system's."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")


def landlock_version() -> int:
    """Which version (ABI) of Landlock the kernel has; 0 for none, or none that may be used here."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def everything(version: int) -> int:
    """All that this version can forbid about files."""
    return _ALL[max(known for known in _ALL if known <= version)]


def enter(root: bytes, steps: Sequence[bytes], links: bool, made: bool, private: Iterable[bytes], apart: bytes) -> None:
    """Go to the directory. Raises OSError; EPERM where it is, in truth, in a private one and not in `apart`."""
    if links:
        os.chdir(root)
    else:
        found = workspace_directory(root, steps[0]) if made else descend(root, steps)
        os.fchdir(found)
        os.close(found)
    # Asked only now, of the kernel: whatever links or exchanged directories led here, this is where we are.
    here = os.getcwdb()  # noqa: PTH109 - pathlib is too heavy for the helper
    if apart and _within(here, os.path.realpath(apart)):
        return
    if any(_within(here, os.path.realpath(folder)) for folder in private):
        raise OSError(errno.EPERM, "")


def expose(paths: Iterable[bytes], private: Iterable[bytes]) -> None:
    """Look at what a sandbox is to open. Raises OSError for a path that is not there; EPERM for one with a private
    directory in it, which could not be shut out then.
    """
    for path in paths:
        os.stat(path)  # noqa: PTH116 - pathlib is too heavy for the helper
        if any(_within(os.path.realpath(folder), os.path.realpath(path)) for folder in private):
            raise OSError(errno.EPERM, "")


def limit(limits: Iterable[tuple[int, int, int]]) -> None:
    """Set each (resource, soft, hard), below what we have ourselves; a hard one of -1 stays as it is."""
    for what, soft, hard in limits:
        _, most = resource.getrlimit(what)
        ceiling = most if hard < 0 else hard if most < 0 else min(hard, most)
        resource.setrlimit(what, (soft if ceiling < 0 else min(soft, ceiling), ceiling))


def no_new_privs() -> None:
    """Nothing that is executed from here on gains privileges."""
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def wall() -> None:
    """Signal and trace nothing from here on but what is started from here on, and ourselves; no_new_privs must be set,
    or we be root. Needs `SCOPE_VERSION`.
    """
    attributes = struct.pack("=QQQ", 0, 0, _SIGNALS)
    ruleset = _call(_libc.syscall, _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    _call(_libc.syscall, _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def landlock(version: int, network: bool, rules: Iterable[tuple[bytes, int, bool]]) -> None:
    """Shut ourselves in: (path, what may be done below it, whether it must be there). no_new_privs must be set."""
    handled = everything(version)
    tcp = 0 if network or version < NETWORK_VERSION else _TCP
    attributes = struct.pack("=QQQ", handled, tcp, _SCOPES if version >= SCOPE_VERSION else 0)
    ruleset = _call(_libc.syscall, _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path, access, needed in rules:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            if needed:
                raise
            continue
        allowed = access & handled
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= OF_FILES
        _call(_libc.syscall, _ADD_RULE, ruleset, _BENEATH, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    _call(_libc.syscall, _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    # Root keeps what makes it root past any ruleset, such as a look into every process (CAP_PERFMON). With nothing in
    # its bounding set it is a user like any other from exec on; who is not root has nothing, and may drop nothing.
    if os.geteuid() == 0:
        for capability in range(64):
            if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
                break


def _call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
