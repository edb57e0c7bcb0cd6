"""What the helper programs have in common (`keeper.py`): a subreaper that hears messages on descriptor 0."""

from __future__ import annotations

import array
import contextlib
import ctypes
import marshal
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable

from actors.processes import cgroup, linux

DESCRIPTORS = 16  # the most that come with one message
RETRY_S = (0.002, 1.0)  # how soon a tree that is ending is looked at again: first, and at most

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl

Handle = Callable[[tuple[object, ...], list[int]], None]


class Leave(Exception):
    """Raised by a message handler: leave as soon as no child is left. `killing`: see to that at once."""

    def __init__(self, *, killing: bool = False) -> None:
        self.killing = killing


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
        leaving, kill_at = False, math.inf
        retry_s = RETRY_S[0]
        while True:
            alone = self.bury()
            if alone and leaving and (not self.group or cgroup.remove(self.group)):
                return
            tend()
            if not leaving and self.forsaken(alone=alone):
                leaving, kill_at = True, 0.0
                continue
            killing = time.monotonic() >= kill_at
            if leaving and not killing:
                # Forked after the word went round, and their parent is gone: nobody waits for what they do.
                self.terminate(filter(None, map(linux.read, linux.children(os.getpid()))))
            if killing:
                if self.group:
                    cgroup.kill(self.group)
                kill_below(thorough=retry_s > RETRY_S[0])
            heard = poll.poll(retry_s * 1000 if leaving else self.patience_ms())
            retry_s = RETRY_S[0] if heard else min(retry_s * 2, RETRY_S[1])
            for fd, _ in heard:
                if fd == self.bell:
                    os.read(self.bell, 4096)
                    continue
                try:
                    data, descriptors = self.receive()
                    if data:
                        handle(marshal.loads(data), descriptors)  # noqa: S302 - written by the daemon that started us
                    elif self.hung_up(poll) or leaving:
                        leaving, kill_at = True, min(kill_at, time.monotonic() + patience_s)
                except Leave as leave:
                    leaving, kill_at = True, 0.0 if leave.killing else kill_at

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

    def hung_up(self, poll: select.poll) -> bool:
        """The other end is closed. Whether everything below is to be killed."""
        poll.unregister(0)
        return True

    def patience_ms(self) -> float | None:
        """After how long it looks around when nothing happens; None: never."""
        return None

    def forsaken(self, *, alone: bool) -> bool:
        """Whether nobody will ever want what is below. `alone`: nothing is."""
        return False

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


def tell(descriptor: int, words: bytes) -> None:
    """Write to somebody who may be gone."""
    try:
        os.write(descriptor, words)
    except OSError:
        return
