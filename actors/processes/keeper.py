"""The helper program: one guardian per daemon, and one keeper per process tree, forked from it.

Why a program of our own stands between the daemon and what it starts:

- **Emptiness is proven by the kernel.** A keeper is the subreaper of its tree: whoever double-forks, calls setsid or
  clears its environment becomes the keeper's own child when its parent dies (PR_SET_CHILD_SUBREAPER(2const)). So "no
  child left" (ECHILD) means that no descendant is left, without searching for anything.
- **kill -9 of the daemon ends every tree.** The kernel closes the daemon's end of the socket, and a keeper whose socket
  has ended kills its whole tree, then leaves. Nobody has to be restarted for that.
- **Killing a keeper helps nobody.** What it kept falls to the guardian, which kills what is below it and no keeper.
- **Forking is safe here.** One thread, few descriptors: the child may run Python between fork and exec, which in a
  daemon with threads may deadlock; so the working directory, the session and the terminal need no second helper.
- **The host is left alone.** No thread in it, no SIGCHLD, no waitpid, and no subreaper in somebody else's program.

Where a tree has a control group, its keeper kills through that too, and its last word is not said before the kernel let
it remove the group: a second proof, that does not rest on parentage.

A keeper that lasts (`LastingKeeper`) is the exception to the second: it was asked to outlive the daemon, and waits at a
socket of its own for the next one to take its tree over. It has a guardian of its own, which lasts as well.

The guardian forks rather than starts keepers because a fork shares its memory and takes a millisecond. Each of these
programs talks on descriptor 0, a SOCK_SEQPACKET pair; a message is one marshalled tuple (both ends are the same
interpreter).
Imports are kept few: every megabyte here is paid once per daemon, every written page once per tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import marshal
import os
import select
import signal
import socket
import struct
import sys
import termios
from collections.abc import Callable

from actors.processes import cgroup, confine, linux
from actors.processes.station import Leave, Station, tell

OWN_DESCRIPTORS = 32  # where those of ours are while a program gets its own
FORSAKEN_S = 5.0  # how soon a keeper that nobody has hold of sees that nobody can ever find it again
KEY_S = 0.2  # how long whoever calls has to say the key
PATIENCE_S = 0.5  # how long keepers have for their trees before the guardian kills them

# What we ignore ourselves, and what a shell ignores for those that it starts in the background.
DEFAULT = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl

TYPE_CHECKING = False  # typing itself is too heavy for the helper
if TYPE_CHECKING:
    from typing import Any


class Keeper(Station):
    """Starts the programs of one tree, signals them, and outlives all of them."""

    def handle(self, message: tuple[object, ...], descriptors: list[int]) -> None:
        match message:
            case ("spawn", int(serial)):
                request, reply, report, *stdio = descriptors
                program = marshal.loads(os.pread(request, os.fstat(request).st_size, 0))  # noqa: S302 - by the daemon
                self.group = program["group"]
                pid = fork_program(program, reply, stdio)
                if pid > 0:
                    self.reports[pid] = serial, report
                    descriptors.remove(report)
                for descriptor in descriptors:
                    os.close(descriptor)
            case ("signal", int(serial), int(signum)):
                # Who is in `reports` is not buried yet, so its pid cannot mean anybody else.
                for pid in [pid for pid, (number, _) in self.reports.items() if number == serial]:
                    _signal_group(pid, signum)
            case ("kill", *_):
                raise Leave(killing=True)
            case ("end", *_):
                self.terminate(reversed(linux.descendants(os.getpid())))
                if self.group:
                    cgroup.freeze(self.group, frozen=False)  # what was told to end now does, and nothing else
                raise Leave


class LastingKeeper(Keeper):
    """A keeper that waits, when its daemon has gone, for the next one: on descriptor 0 is then where that calls.

    Whoever calls says the key in our folder, or is not heard: the tree's own programs can call too, and a sandbox does
    not let them read that. Then he is told (our pid, that of the guardian above us or 0, the highest number of a
    program so far, the control group), with the last list of the frozen as a descriptor, if there is one. It leaves
    when it has nothing to keep any more, or the folder of its socket is gone, so that nobody could ever call.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(b"house-lasting")
        self.frozen: int | None = None
        self.serials = 0
        self._folder = folder
        with open(f"{folder}/key", "rb") as file:  # noqa: PTH123 - pathlib is too heavy for the helper
            self._key = file.read()
        self._guardian = os.getppid()
        self._door = self.socket
        self._called = False

    def handle(self, message: tuple[object, ...], descriptors: list[int]) -> None:
        match message:
            case ("frozen",):
                if self.frozen is not None:
                    os.close(self.frozen)
                (self.frozen,) = descriptors
                return
            case ("spawn", int(serial)):
                self.serials = serial
        super().handle(message, descriptors)

    def patience_ms(self) -> float | None:
        return FORSAKEN_S * 1000 if self.socket is self._door else None

    def hung_up(self, poll: select.poll) -> bool:
        if self.socket is not self._door:
            self.socket.close()
            self.socket = self._door
        else:  # reading from where they call says that somebody does
            try:
                caller, _ = self._door.accept()
            except OSError:
                return False
            if not self._knows(caller):
                caller.close()
                return False
            self.socket, self._called = caller, True
        os.dup2(self.socket.fileno(), 0)
        if self.socket is not self._door:
            guardian = self._guardian if os.getppid() == self._guardian else 0
            hello = marshal.dumps((os.getpid(), guardian, self.serials, self.group))
            with contextlib.suppress(OSError):
                socket.send_fds(self.socket, [hello], [] if self.frozen is None else [self.frozen])
        return False

    def _knows(self, caller: socket.socket) -> bool:
        """Whether it says our key. Our own have no time for it: they could keep everybody else waiting."""
        try:
            pid, _, _ = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            line = linux.lineage(pid)
            caller.settimeout(0 if os.getpid() in line or not line else KEY_S)
            return caller.recv(64) == self._key
        except OSError:
            return False
        finally:
            caller.settimeout(None)

    def forsaken(self, *, alone: bool) -> bool:
        if self.socket is not self._door:
            return False
        return (alone and self._called) or not os.path.lexists(self._folder)


def main() -> None:
    """The guardian: forks one keeper for each descriptor it is sent."""
    _prepare()
    guardian = Station(b"house-guardian")
    keepers: set[int] = set()
    asking: list[int] = []  # where to say that no stray is left

    def handle(message: tuple[object, ...], descriptors: list[int]) -> None:
        if message == ("strays",):
            asking.extend(descriptors)
            return
        try:
            child = os.fork()
        except OSError:
            child = -1  # closing the descriptor below is the answer
        if child == 0:
            guardian.socket.close()
            os.close(guardian.bell)
            os.close(signal.set_wakeup_fd(-1))
            os.dup2(descriptors[0], 0)
            os.close(descriptors[0])
            for descriptor in asking:
                os.close(descriptor)
            _leave_by(lambda: keep(Keeper(b"house-keeper")))
        keepers.add(child)
        os.close(descriptors[0])

    def tend() -> None:
        """Whoever is below us and is no keeper, had one that was killed."""
        below = set(linux.children(os.getpid()))
        keepers.intersection_update(below)
        for stray in below - keepers:
            with contextlib.suppress(OSError):
                os.kill(stray, signal.SIGKILL)
        while asking and not below - keepers:
            descriptor = asking.pop()
            tell(descriptor, b"none")
            os.close(descriptor)

    # Keepers hear of the daemon's death as we do, and do it better: with their trees go the control groups of those.
    _leave_by(lambda: guardian.serve(handle, tend, patience_s=PATIENCE_S))


def last(folder: str) -> None:
    """A keeper that lasts, and above it a guardian of its own: when it is killed, what it kept falls to that. In a
    program of its own; descriptor 0 is where daemons call, in that folder.
    """
    _prepare()
    os.chdir("/")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()  # the other end stays open for as long as the keeper is there
        _leave_by(lambda: keep(LastingKeeper(folder)))
    theirs.close()
    os.dup2(ours.fileno(), 0)
    ours.close()
    _leave_by(lambda: Station(b"house-guardian").serve(lambda *_: None))


def _prepare() -> None:
    # A terminal's Ctrl-C and a service manager's SIGTERM are for the daemon, which ends its trees itself.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # No collector: it would touch, and so copy, the pages that are shared with what is forked.
    gc.disable()
    gc.freeze()


def _leave_by(work: Callable[[], None]) -> None:
    """Run it and go, past every `finally` of a program that this process was forked from."""
    code = 70
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def keep(keeper: Keeper) -> None:
    """Serve, to the last word."""
    keeper.serve(keeper.handle)
    tell(0, b"empty")


def _signal_group(leader: int, signum: int) -> None:
    try:
        os.killpg(leader, signum)
    except ProcessLookupError:
        os.kill(leader, signum)  # it has not come as far as setsid yet
    except PermissionError:
        return  # it changed its user; the tree's end will name it


def fork_program(program: dict[str, Any], reply: int, stdio: list[int]) -> int:
    """Start a program as leader of its own session. On `reply` go the two pids, and what failed; exec closes it.

    `program` is `spawning.Program.packed`; `stdio` become its descriptors 0, 1, 2 and so on. Returns the pid, or -1.
    The keeper does not wait for exec, which a dead network disk may delay for ever.
    """
    keeper = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        tell(reply, b"0 0 fork %d" % (error.errno or 0))
        return -1
    if pid:
        return pid
    stage = b"session"
    try:
        os.setsid()
        # Out of the way of the numbers that the program's own descriptors get.
        reply, *stdio = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, OWN_DESCRIPTORS) for one in (reply, *stdio)]
        tell(reply, b"%d %d" % (keeper, os.getpid()))
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        if program["terminal"]:
            fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number)
        for signum in DEFAULT:
            signal.signal(signum, signal.SIG_DFL)
        if program["group"]:
            stage = b"group"
            cgroup.join(program["group"])
        stage = b"directory"
        confine.enter(*program["place"])
        stage = b"sandbox"
        if program["no_new_privs"]:
            confine.no_new_privs()
        confine.expose(program["opened"], program["place"][4])
        if program["wall"]:
            confine.wall()
        if program["landlock"]:
            confine.landlock(*program["landlock"])
        stage = b"limits"
        os.umask(program["umask"])
        confine.limit(program["limits"])
        stage = b"program"
        execute(program["argv"], program["env"])
    except OSError as error:
        tell(reply, b" %s %d" % (stage, error.errno or 0))
    finally:
        os._exit(127)


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """execve(2) with the search of execvp(3) through the child's own PATH. Returns never, or raises the best reason."""
    folders = env.get(b"PATH", os.defpath.encode()).split(b":") if b"/" not in argv[0] else [b""]
    best: OSError = FileNotFoundError(errno.ENOENT, "")
    for folder in folders:
        path = os.path.join(folder, argv[0])  # noqa: PTH118 - pathlib is too heavy for the helper
        try:
            os.execve(path, argv, env)  # noqa: S606 - no shell is the point
        except FileNotFoundError:
            # The file is there and yet not found: it is the interpreter in its first line that is missing.
            if os.path.lexists(path):
                raise OSError(errno.ENOEXEC, "") from None
        except NotADirectoryError:
            continue
        except OSError as error:
            best = error
    raise best


if __name__ == "__main__":
    sys.exit("this program is started by the daemon")
