"""Sandboxes as the kernel or bubblewrap understand them, and whether this machine has them.

Both are there or not for reasons that nothing but a try can tell: a kernel without Landlock, a container that refuses
its system calls, user namespaces that are switched off. So each is tried once, really, before anybody relies on it.

What stays as it was: the keeper is the subreaper of the tree. A process in a namespace of its own has its orphans
brought to the namespace's first process, which is our descendant; when that one dies the kernel ends the namespace. So
an empty tree is still empty, freezing still finds everybody, and bubblewrap's own `--die-with-parent` is not wanted: it
would turn a polite SIGTERM to the group into a SIGKILL of the program.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from actors.children import Outside, Sandbox, beneath
from actors.processes import confine

__all__ = ["Shut", "lacking", "shut", "unsafe"]

PROBE_S = 10.0
NAMESPACES = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shut:
    """How to shut a program in: what stands before its argv, the arguments of `confine.landlock`, and what is
    opened to it, which must be there.
    """

    before: tuple[str, ...] = ()
    landlock: tuple[int, bool, tuple[tuple[bytes, int, bool], ...]] | None = None
    opened: tuple[bytes, ...] = ()


def shut(sandbox: Sandbox, cwd: str) -> Shut:
    """The sandbox around a program that starts in `cwd`, which it may write to."""
    opened = (*map(os.fsencode, (*sandbox.read, *sandbox.write)), b".")
    if sandbox.by == "bubblewrap":
        return Shut(before=(*_bubblewrap(sandbox), "--bind", cwd, cwd, "--chdir", cwd, "--"), opened=opened)
    version = confine.landlock_version()
    all_of_it = confine.everything(version) if version else 0
    device = confine.READ_FILE | confine.WRITE_FILE | confine.READ_DIR | confine.TRUNCATE | confine.IOCTL_DEV
    rules = [(os.fsencode(folder), confine.READ, False) for folder in (*confine.FOLDERS, *_names(sandbox))]
    rules += [(b"/proc", confine.READ_FILE | confine.READ_DIR, False)]
    rules += [(os.fsencode(f"/dev/{name}"), device, False) for name in confine.DEVICES]
    rules += [(os.fsencode(path), confine.READ, True) for path in sandbox.read]
    rules += [(os.fsencode(path), all_of_it, True) for path in sandbox.write]
    # By its descriptor, so to say: we stand in it already.
    rules += [(b".", all_of_it, True)]
    return Shut(landlock=(version, sandbox.network, tuple(rules)), opened=opened)


def lacking(sandbox: Sandbox) -> str | None:
    """What this machine lacks for it, as a sentence; None when it works. Tries it out, so it may take a moment."""
    if sandbox.by == "landlock":
        version = confine.landlock_version()
        if not version:
            return "Landlock is not to be had here: the kernel, or the container around us, does not allow it"
        if not sandbox.network and version < confine.NETWORK_VERSION:
            return (
                f"Landlock is of version {version} here, and forbids the network only from {confine.NETWORK_VERSION} on"
                " (Linux 6.7); say network: true, or use bubblewrap"
            )
        return None
    program = shutil.which("bwrap")
    if program is None:
        return "there is no program bwrap (the package bubblewrap)"
    return _tried(program)


def unsafe(sandbox: Sandbox, cwd: str, private: tuple[str, ...]) -> None:
    """Raises Outside when what it opens holds a private directory, which it could not shut out then. Reads the disk."""
    for path in (*confine.FOLDERS, *sandbox.read, *sandbox.write, cwd):
        for folder in private:
            if beneath(os.path.realpath(folder), os.path.realpath(path)):
                raise Outside(f"a sandbox that opens {path!r} would open the house's own directory in it")


@functools.cache
def _works(program: str) -> str:
    """Empty when bubblewrap works, else what it said. Raises OSError, which is not remembered."""

    def run() -> subprocess.CompletedProcess[bytes]:
        # As our children are started, of which a set-user-ID bwrap would otherwise differ. It binds this thread alone.
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        argv = [
            program,
            *NAMESPACES,
            "--unshare-net",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "true",
        ]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, check=False)

    with ThreadPoolExecutor(1) as fresh:
        done = fresh.submit(run).result()
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip()[:500] or f"exit status {done.returncode}"


def _tried(program: str) -> str | None:
    try:
        said = _works(program)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(error)
    if not said:
        return None
    _works.cache_clear()  # what is switched on later is seen then
    return f"bubblewrap does not work here ({said}); mostly user namespaces are switched off"


def _bubblewrap(sandbox: Sandbox) -> list[str]:
    words = [shutil.which("bwrap") or "bwrap", *NAMESPACES, *([] if sandbox.network else ["--unshare-net"])]
    for folder in (*confine.FOLDERS, *_names(sandbox)):
        words += ["--ro-bind-try", folder, folder]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - one of the program's own
    for path in sandbox.read:
        words += ["--ro-bind", path, path]
    for path in sandbox.write:
        words += ["--bind", path, path]
    return words


def _names(sandbox: Sandbox) -> list[str]:
    """Where names of other machines are looked up: often a link out of /etc."""
    return [os.path.realpath("/etc/resolv.conf")] if sandbox.network else []
