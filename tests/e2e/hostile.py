"""Programs that do all they can to outlive whoever started them; run as `python hostile.py NAME`.

Each says `up` when its evil is in place, and would go on for ever. What none of them can shed is the limit on the size
of files that it was started with: `survivors` finds by that whoever is left, wherever he hid.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOREVER_S = 10_000
SWARM, LINES = 60, 12
PROGRAMS: dict[str, Callable[[], None]] = {}
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207

_marks = itertools.count(random.randrange(1 << 41, 1 << 45, 1 << 20))


# -- for tests ---------------------------------------------------------------------------------------------------------
def mark() -> int:
    """A `file_bytes` that no other process of this machine has."""
    return next(_marks)


def argv(name: str) -> list[str]:
    return [sys.executable, "-I", "-S", __file__, name]


def survivors(mark: int) -> list[int]:
    """The pids of whoever was started with this `file_bytes`, or descends from it; zombies too, but for those that only
    init has to bury: some look around every two seconds.
    """
    return sorted(pid for pid in _marked(str(mark).encode()) if not _buried_by_init(pid))


def _buried_by_init(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return True  # it was meanwhile
    return (fields[0], fields[1], fields[17]) == ("Z", "1", "1")  # one thread: the others of a headless one run on


def _marked(mark: bytes) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            lines = Path(entry.path, "limits").read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(b"Max file size") and mark in line.split():
                yield int(entry.name)


# -- the programs ------------------------------------------------------------------------------------------------------
def hostile(function: Callable[[], None]) -> Callable[[], None]:
    PROGRAMS[function.__name__.replace("_", " ")] = function
    return function


def up() -> None:
    os.write(1, b"up\n")


def tick() -> None:
    """Leave a trace of having run: one byte in the file `ticks` of our folder."""
    file = os.open("ticks", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b".")
    os.close(file)


def stay() -> None:
    while True:
        time.sleep(FOREVER_S)


def each(*steps: Callable[[], object]) -> Callable[[], None]:
    def walk() -> None:
        for step in steps:
            step()

    return walk


def halt() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def deafen() -> None:
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        try:
            signal.signal(signum, signal.SIG_IGN)
        except OSError:
            continue


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def daemonize(work: Callable[[], None]) -> None:
    """Fork, setsid, fork; the one in the middle is gone when this returns."""

    def middle() -> None:
        os.setsid()
        child(work)

    os.waitpid(child(middle), 0)


def bare() -> None:
    """No environment, no descriptor, no name, another folder; what goes on is another program."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, 1024)
    os.chdir("/")
    deafen()
    os.execve("/bin/sleep", ["[kworker/0:1]", str(FOREVER_S)], {})


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def helpers() -> list[int]:
    """Our keeper and its guardian, and nobody else: started by hand, this would end whoever started it."""
    keeper = os.getppid()
    pids = [keeper, parent_of(keeper)]
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith("house-")]


def attempt(signum: int, pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except OSError:
            continue


@hostile
def another_session() -> None:
    child(each(os.setsid, stay))
    child(each(os.setpgrp, stay))
    up()
    stay()


@hostile
def double_fork() -> None:
    daemonize(stay)
    up()
    stay()


@hostile
def deaf() -> None:
    deafen()
    child(stay)
    up()
    stay()


@hostile
def bare_orphan() -> None:
    daemonize(bare)
    deafen()
    up()
    stay()


@hostile
def swarm() -> None:
    """Forks in a loop up to a limit, each in a session of its own; whoever dies is replaced."""
    deafen()

    def one() -> None:
        os.setsid()
        tick()
        time.sleep(0.05)

    def breed() -> None:
        born = 0
        while True:
            child(one)
            born += 1
            if born == SWARM:
                up()
            if born >= SWARM:
                os.wait()

    breed()


@hostile
def chain() -> None:
    """Each generation leaves a successor in a new session and dies at once: nobody is there when a scan comes by."""
    deafen()

    def link() -> None:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
            tick()

    for _ in range(4):
        child(link)
    up()
    stay()


@hostile
def bomb() -> None:
    """A chain that splits as often as it may: so many lines of it at once."""
    deafen()
    taken, give = os.pipe2(os.O_NONBLOCK)
    os.write(give, b"x" * LINES)

    def split() -> None:
        while True:
            tick()
            if os.fork() == 0:
                continue
            try:
                os.read(taken, 1)
            except BlockingIOError:
                os._exit(0)
            if os.fork():
                os._exit(0)

    child(split)
    up()
    stay()


@hostile
def stopped() -> None:
    """Stopped processes take no signal but SIGKILL and SIGCONT."""
    for _ in range(3):
        os.waitpid(child(each(halt, stay)), os.WUNTRACED)
    daemonize(each(halt, stay))
    up()
    stay()


@hostile
def kills_its_keeper() -> None:
    pids = helpers()
    daemonize(bare)
    up()
    attempt(signal.SIGKILL, pids[:1])
    stay()


@hostile
def kills_its_keeper_and_the_guardian() -> None:
    pids = helpers()
    daemonize(bare)
    up()
    attempt(signal.SIGKILL, pids[::-1])
    stay()


@hostile
def stops_its_helpers() -> None:
    """Again and again, so that no SIGCONT helps for long."""
    pids = helpers()

    def annoy() -> None:
        deafen()
        os.setsid()
        while True:
            attempt(signal.SIGSTOP, pids)
            time.sleep(0.0001)

    daemonize(annoy)
    daemonize(bare)
    up()
    stay()


@hostile
def traces_its_keeper() -> None:
    keeper = helpers()[0]

    def trace() -> None:
        deafen()
        libc = ctypes.CDLL(None)
        libc.ptrace(PTRACE_SEIZE, keeper, 0, 0)
        libc.ptrace(PTRACE_INTERRUPT, keeper, 0, 0)
        stay()

    daemonize(trace)
    daemonize(bare)
    up()
    stay()


@hostile
def holds_the_pipe() -> None:
    """Its parent is gone, and the output open."""
    daemonize(each(deafen, up, stay))
    os._exit(0)


@hostile
def zombies() -> None:
    for _ in range(20):
        child(lambda: None)
    daemonize(each(*[lambda: child(lambda: None)] * 20, stay))
    up()
    stay()


@hostile
def headless() -> None:
    """Its first thread is gone, so it looks like a zombie, and runs on."""
    deafen()
    threading.Thread(target=stay).start()
    up()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit(2), of this thread alone


@hostile
def adopts() -> None:
    """A subreaper of its own: orphans stay below it until it dies."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    deafen()
    daemonize(bare)
    daemonize(stay)
    up()
    stay()


@hostile
def undying() -> None:
    """Two that watch each other, and each raises the other from the dead."""
    deafen()

    def other_than(me: int) -> int:
        return child(lambda: watch(me))

    def watch(other: int) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            time.sleep(0.001)
            try:
                os.kill(other, 0)
            except OSError:
                other = other_than(os.getpid())
            tick()

    daemonize(lambda: watch(other_than(os.getpid())))
    up()
    stay()


@hostile
def nohup() -> None:
    jobs = "(nohup sleep 10000 >/dev/null 2>&1 &); sleep 10000 & disown"
    script = f"{jobs}; trap '' TERM HUP INT; echo up; wait; sleep 10000"
    os.execv("/bin/bash", ["bash", "-c", script])


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
