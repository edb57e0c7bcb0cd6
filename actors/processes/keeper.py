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

The guardian forks rather than starts keepers because a fork shares its memory and takes a millisecond. Each of these
programs talks on descriptor 0, a SOCK_SEQPACKET pair; a message is one marshalled tuple (both ends are the same
interpreter).
Imports are kept few: every megabyte here is paid once per daemon, every written page once per tree.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import gc
import marshal
import math
import os
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Callable, Iterable

from actors.processes import cgroup, confine, linux

DESCRIPTORS = 16  # the most that come with one message
OWN_DESCRIPTORS = 32  # where those of ours are while a program gets its own
PATIENCE_S = 0.5  # how long keepers have for their trees before the guardian kills them
RETRY_S = (0.002, 1.0)  # how soon a tree that is ending is looked at again: first, and at most

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl

Handle = Callable[[tuple[object, ...], list[int]], None]
TYPE_CHECKING = False  # typing itself is too heavy for the helper
if TYPE_CHECKING:
    from typing import Any


class Leave(Exception):
    """Raised by a message handler: leave as soon as no child is left."""


def kill_below(*, thorough: bool) -> None:
    """Kill our children: what they leave behind becomes our children in turn, so doing this again ends the whole tree.

    It needs no look at whom a pid means, since only we could bury them, and it is quick enough to overtake
    programs that fork for their lives. `thorough`: a child does not die, so reach past it.
    """
    for pid in linux.children(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if thorough:
        for stat in linux.descendants(os.getpid()):
            linux.send(stat, signal.SIGKILL)


class Station:
    """A subreaper with a socket on descriptor 0: hears messages, buries its dead, never leaves its tree behind."""

    def __init__(self, name: bytes) -> None:
        _prctl(_PR_SET_NAME, name)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.socket = socket.socket(fileno=os.dup(0))
        self.reports: dict[int, tuple[int, int]] = {}  # child -> the daemon's number for it, where to tell its end
        self.told: set[tuple[int, int, str]] = set()  # who got its SIGTERM, and as which program
        self.group = ""  # the control group of what is below us
        # SIGCHLD wakes the poll through this pipe; its content means nothing.
        self.bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self, handle: Handle, tend: Callable[[], None] = lambda: None, *, patience_s: float = 0.0) -> None:
        """Until told to leave, or the other end is closed: then everything below is killed, `patience_s` later. Returns
        with no child.

        `tend` is called whenever somebody may have died, or come.
        """
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        poll.register(0, select.POLLIN)
        leaving = False
        kill_at = math.inf
        retry_s = RETRY_S[0]
        while True:
            alone = self.bury()
            if alone and leaving and (not self.group or cgroup.remove(self.group)):
                return
            tend()
            killing = time.monotonic() >= kill_at
            if leaving and not killing:
                # Forked after the word went round, and their parent is gone: nobody waits for what they do.
                self.terminate(filter(None, map(linux.read, linux.children(os.getpid()))))
            if killing:
                if self.group:
                    cgroup.kill(self.group)
                kill_below(thorough=retry_s > RETRY_S[0])
            heard = poll.poll(retry_s * 1000 if leaving else None)
            retry_s = RETRY_S[0] if heard else min(retry_s * 2, RETRY_S[1])
            for fd, _ in heard:
                if fd == self.bell:
                    os.read(self.bell, 4096)
                    continue
                try:
                    data, descriptors = self.receive()
                    if data:
                        handle(marshal.loads(data), descriptors)  # noqa: S302 - written by the daemon that started us
                    else:
                        leaving, kill_at = True, time.monotonic() + patience_s
                        poll.unregister(0)
                except Leave:
                    leaving = True

    def terminate(self, stats: Iterable[linux.Stat]) -> None:
        """Ask each of them to end, once, also if it is stopped."""
        for stat in stats:
            # By program too: one that was just forked loses a signal to the handlers it has until exec.
            who = (*stat.identity, stat.name)
            if who not in self.told:
                self.told.add(who)
                # A shell on a terminal ignores SIGTERM; that its terminal goes away is what SIGHUP says.
                if stat.tty:
                    linux.send(stat, signal.SIGHUP)
                linux.send(stat, signal.SIGTERM)
                linux.send(stat, signal.SIGCONT)

    def receive(self) -> tuple[bytes, list[int]]:
        try:
            room = socket.CMSG_LEN(DESCRIPTORS * array.array("i").itemsize)
            data, extra, _, _ = self.socket.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return b"", []
        descriptors = array.array("i")
        for _, _, packed in extra:
            descriptors.frombytes(packed[: len(packed) - len(packed) % descriptors.itemsize])
        return data, list(descriptors)

    def bury(self) -> bool:
        """Reap whoever died and report the ends somebody waits for. True when no child is left at all."""
        while True:
            try:
                # This process has no children but its tree, so waiting for any of them steals from nobody.
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in self.reports:
                _, report = self.reports.pop(pid)
                tell(report, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(report)


def main() -> None:
    """The guardian: forks one keeper for each descriptor it is sent."""
    # A terminal's Ctrl-C and a service manager's SIGTERM are for the daemon, which ends its trees itself.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # No collector: it would touch, and so copy, the pages that all keepers share.
    gc.disable()
    gc.freeze()
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
            _leave_by(keep)
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


def _leave_by(work: Callable[[], None]) -> None:
    """Run it and go, past every `finally` of a program that this process was forked from."""
    code = 70
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def keep() -> None:
    """A keeper: starts the programs of one tree, signals them, and outlives all of them."""
    keeper = Station(b"house-keeper")

    def handle(message: tuple[object, ...], descriptors: list[int]) -> None:
        match message:
            case ("spawn", int(serial)):
                request, reply, report, *stdio = descriptors
                program = marshal.loads(os.pread(request, os.fstat(request).st_size, 0))  # noqa: S302 - as above
                keeper.group = program["group"]
                pid = fork_program(program, reply, stdio)
                if pid > 0:
                    keeper.reports[pid] = serial, report
                    descriptors.remove(report)
                for descriptor in descriptors:
                    os.close(descriptor)
            case ("signal", int(serial), int(signum)):
                # Who is in `reports` is not buried yet, so its pid cannot mean anybody else.
                for pid in [pid for pid, (number, _) in keeper.reports.items() if number == serial]:
                    _signal_group(pid, signum)
            case ("end",):
                keeper.terminate(reversed(linux.descendants(os.getpid())))
                if keeper.group:
                    cgroup.freeze(keeper.group, frozen=False)  # what was told to end now does, and nothing else
                raise Leave

    keeper.serve(handle)
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
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
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


def tell(descriptor: int, words: bytes) -> None:
    """Write to somebody who may be gone."""
    try:
        os.write(descriptor, words)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit("this program is started by the daemon")
