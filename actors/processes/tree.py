"""Every process that one incarnation of an engine started, and what became of those.

A tree is what stands below one keeper (`keeper.py`). The keeper is forked with the first program, so that a tree that
never started anything costs nothing and ends at once. The kernel hands every orphan of the tree to the keeper: listing,
freezing and ending follow parentage alone, and the keeper's last word, "empty", is a proof. Where the house has control
groups a tree has one as well, and the kernel freezes and kills it in one step (`cgroup.py`). The marker in the
environment is the last line of defence: a later daemon finds by it what is left, and so does a tree whose keeper
somebody killed.

Without a group freezing goes from parents to children. A process that is seen stopped cannot fork, so its list of
children is final; and a shell that is stopped first does not notice, and does not tell its user, that its job was
stopped. Thawing goes the other way, and wakes only what freezing stopped: a job that its user had suspended stays so.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import marshal
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from actors.children import ChildPolicy, ResourceLimits, Sandbox
from actors.processes import cgroup, linux
from actors.processes.guardian import guardian
from actors.processes.leftovers import reap_leftovers
from actors.processes.listing import KILL_S, Leak, Listing, Meter, ProcessInfo, info, leak
from actors.processes.process import Process
from actors.processes.spawning import Program, answer, program
from actors.processes.streams import Descriptors, pipe, pipes, terminal

LOOK_S = (0.0005, 0.02)  # how soon a process that was told to stop is looked at again: first, and at most
KILL_AGAIN_S = 0.1
"""How often a keeper that does not end its tree is helped with it."""


@dataclass(frozen=True, slots=True)
class Confined:
    """What holds the processes of a tree: their limits, their control group, and whether they can signal nothing but
    each other.
    """

    limits: ResourceLimits
    group: str | None
    walled: bool

    @property
    def freezes(self) -> bool:
        """Whether the group can be frozen; else it is done by signals."""
        return self.group is not None and cgroup.has(self.group, "cgroup.freeze")

    @property
    def kills(self) -> bool:
        """Whether the group can be killed in one step; else it is done by signals."""
        return self.group is not None and cgroup.has(self.group, "cgroup.kill")


class Tree:
    """All processes of one incarnation. `marker` is `<house>.<engine uid>.<incarnation>`, unique on the machine.
    `policy`: what all that it starts are started with.

    Whoever makes a tree calls `end`: nothing else lets go of its keeper. A tree belongs to one trio run.
    """

    def __init__(self, marker: str, policy: ChildPolicy | None = None) -> None:
        self.marker = marker
        self.policy = policy or ChildPolicy()
        self.frozen = False
        self._socket: socket.socket | None = (
            None  # to the keeper, from the first program to the proof that none is left
        )
        self._keeper: linux.Stat | None = None
        self._serial = itertools.count(1)
        self._started: list[Process] = []
        self._group: str | None = None  # from the first program on, as long as the socket
        self._confined: Confined | None = None
        self._meter = Meter()
        self._stopped: list[linux.Stat] = []  # by freeze, parents first
        self._ended = False
        self._gate = trio.Semaphore(1, max_value=1)  # taken by a spawn for its moment, by a freeze until the thaw
        self._freezing = trio.Lock()
        self._ending = trio.Lock()

    def __repr__(self) -> str:
        return f"<Tree {self.marker!r}{' frozen' * self.frozen}{' ended' * self._ended}>"

    @property
    def programs(self) -> int:
        """How many of the programs that it started have not ended."""
        return sum(process.returncode is None for process in self._started)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = True,
        merge_stderr: bool = False,
        pty: tuple[int, int] | None = None,
        workspace: str | None = None,
        limits: ResourceLimits | None = None,
        sandbox: Sandbox | None = None,
        descriptors: Sequence[int] = (),
    ) -> Process:
        """Start a program as leader of its own session; exec has happened when this returns. Waits while frozen.

        Args:
            argv: The program and its arguments. Without a slash it is looked for in the PATH of `env`, else from `cwd`.
            cwd: The directory it starts in; None for ours.
            env: Its whole environment, to which only the marker is added; None for what the policy passes on.
            stdin: Whether it gets a pipe to read from, or /dev/null.
            merge_stderr: Whether its standard error goes where its output goes.
            pty: Rows and columns of a terminal to run on, in place of pipes.
            workspace: The workspace that it starts in, in place of `cwd`.
            limits: What it may use; where they say nothing the policy's hold.
            sandbox: What it is shut into. It must work here (`sandbox.lacking`).
            descriptors: What it gets as 3, 4 and so on; the caller still closes its own.

        Raises:
            SpawnFailed: It could not be started. Cancelled: it was not started, or it is killed.
        """
        groups = self.policy.groups
        wanted = program(
            argv, cwd, env, self.marker, terminal=pty is not None, policy=self.policy, workspace=workspace,
            limits=limits, sandbox=sandbox, group=groups.path(self.marker) if groups is not None else "",
        )  # fmt: skip
        async with self._gate:
            if self._ended:
                raise wanted.failed("the tree has ended", errno.ESHUTDOWN)
            try:
                self._join(wanted)
            except OSError as error:
                raise wanted.failed("group", error.errno or errno.EIO) from error
            with Descriptors() as ours, Descriptors() as theirs:
                reply, their_reply = pipe(ours, theirs)
                report, their_report = pipe(ours, theirs)
                streams, stdio = (
                    pipes(theirs, stdin=stdin, merge_stderr=merge_stderr) if pty is None else terminal(theirs, *pty)
                )
                ours.callback(streams.close)
                order = theirs.own(os.memfd_create("program"))
                os.write(order, wanted.packed())
                serial = next(self._serial)
                try:
                    self._say(("spawn", serial), [order, their_reply, their_report, *stdio, *descriptors])
                except OSError as error:
                    raise wanted.failed("keeper", error.errno or errno.EIO) from error
                theirs.close()
                try:
                    heard = await answer(reply, self._wake_helpers)
                    if heard.stage:
                        await trio.lowlevel.wait_readable(report)  # until it is buried
                except BaseException:
                    self._signal(serial, signal.SIGKILL)
                    raise
                self._keeper = self._keeper or linux.read(heard.keeper)
                if heard.stage:
                    raise wanted.failed(heard.stage, heard.code)
                ours.pop_all()
            os.close(reply)
            process = Process(heard.pid, streams, report, lambda signum: self._signal(serial, signum))
            self._started = [known for known in (*self._started, process) if known.returncode is None]
            return process

    def processes(self) -> list[ProcessInfo]:
        """The live tree, parents before children."""
        return self.listing().processes

    def listing(self) -> Listing:
        """The same, with what all used. A look at a process that hangs may take a while, so call it in a thread."""
        stats = self._alive()
        shares, booted_at = self._meter.read(stats), linux.booted_at()
        frozen = cgroup.members(self._group) if self.frozen and self._group is not None else set()
        found = [
            info(stat, percent=shares[stat.identity], frozen=stat.pid in frozen, booted_at=booted_at) for stat in stats
        ]
        return Listing(found, self._cpu_s(stats))

    def _cpu_s(self, stats: list[linux.Stat]) -> float:
        """By its control group, else what the live have used, and what was told to those that waited for the dead."""
        if self._group is not None and (counted := cgroup.used(self._group).get("cpu_us")) is not None:
            return counted / 1e6
        keeper = linux.read(self._keeper.pid) if self._keeper is not None else None
        ticks = sum(stat.cpu_ticks + stat.waited_ticks for stat in stats) + (keeper.waited_ticks if keeper else 0)
        return ticks / os.sysconf("SC_CLK_TCK")

    @property
    def starved(self) -> bool:
        """Whether the kernel has ended a process because all together used more memory than they may."""
        return self._group is not None and cgroup.used(self._group).get("killed", 0) > 0

    @property
    def confined(self) -> Confined | None:
        """What holds its processes, by what was started last; None when nothing was."""
        return self._confined

    def alive(self) -> frozenset[tuple[int, int]]:
        """Who is in the tree now, each by pid and start."""
        return frozenset(stat.identity for stat in self._alive())

    async def end_newer(self, before: frozenset[tuple[int, int]], parent: int, term_s: float) -> list[Leak]:
        """End what came since `alive` was `before`, and leave what those have started since: SIGTERM, at most `term_s`
        seconds, SIGKILL, at most `KILL_S` seconds. `parent` was there, and what it has started since ends all the same.

        Returns what could not be ended. Cancellation does not cut it short.
        """
        found: list[linux.Stat] = []
        with trio.CancelScope(shield=True):
            for signum, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, KILL_S)):
                told: set[tuple[int, int]] = set()
                with trio.move_on_after(patience_s):
                    while found := self._newer(before, parent):
                        for stat in found:
                            if stat.identity not in told or signum == signal.SIGKILL:
                                told.add(stat.identity)
                                linux.send(stat, signum)
                                linux.send(stat, signal.SIGCONT)
                        await trio.sleep(LOOK_S[0] if signum == signal.SIGKILL else LOOK_S[1])
                if not found:
                    break
        return [leak(stat) for stat in found]

    def _newer(self, before: frozenset[tuple[int, int]], parent: int) -> list[linux.Stat]:
        if self._keeper is None:
            return []
        everyone = {stat.pid: stat for stat in linux.found_below(self._keeper.pid)}

        def is_newer(stat: linux.Stat) -> bool:
            if stat.identity in before:
                return False
            above = everyone.get(stat.ppid)
            return above is None or above.pid == parent or is_newer(above)

        return [stat for stat in everyone.values() if is_newer(stat)]

    async def freeze(self) -> None:
        """Stop every process; return when every thread of every one was seen stopped. Until the thaw nothing starts.

        Waits for as long as something cannot be stopped, for example in an uninterruptible read. Cancelled, or ended
        meanwhile (trio.ClosedResourceError): what had been stopped runs on.
        """
        async with self._freezing:
            if self.frozen:
                return
            await self._gate.acquire()
            try:
                await self._stop_all()
            except BaseException:
                self._wake()
                raise
            self.frozen = True

    def thaw(self) -> None:
        """Let run on what `freeze` stopped. Does nothing to a tree that is not frozen."""
        if self.frozen:
            self.frozen = False
            self._wake()

    async def end(self, term_s: float) -> list[Leak]:
        """End every process and prove it: SIGTERM, at most `term_s` seconds, SIGKILL, at most `KILL_S` seconds.

        What has a terminal gets SIGHUP as well. An interactive shell may still lose both while it prepares to read, so
        whoever runs one closes its terminal first.

        Returns what could not be ended. Several tasks may call it, and again; cancellation does not cut it short.
        After it the tree starts nothing any more, and without leaks every `Process` has its `returncode`.
        """
        self._ended = True
        with trio.CancelScope(shield=True):
            async with self._ending:
                leaks = [] if self._socket is None else await self._end(self._socket, term_s)
        return leaks

    async def _end(self, ours: socket.socket, term_s: float) -> list[Leak]:
        if self.frozen:
            # The keeper sends SIGTERM and only then lets run: nothing goes on in between as if nothing had happened.
            self.frozen = False
            self._stopped.clear()
            self._gate.release()
        with contextlib.suppress(OSError):
            ours.send(marshal.dumps(("end",)))
        leaks: list[Leak] | None = None
        with trio.move_on_after(term_s):
            leaks = await self._emptied(ours)
        if leaks is None:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_WR)  # for the keeper this is the daemon's death: it kills
            with trio.move_on_after(KILL_S / 2):
                leaks = await self._killed(ours)
        if leaks is None and self._keeper is not None:
            linux.send(self._keeper, signal.SIGKILL)  # somebody keeps it from its work: the guardian is to do it
            with trio.move_on_after(KILL_S / 2):
                leaks = await self._emptied(ours)
        if leaks is None:
            leaks = [leak(stat) for stat in self._alive()]
        if leaks:
            return leaks
        ours.close()
        self._socket = None
        for process in self._started:
            await process.wait()
        await guardian.leave()
        return []

    async def _killed(self, ours: socket.socket) -> list[Leak]:
        """Wait for the keeper to kill its tree, and help when it is slow: somebody may have stopped it, or trace it."""
        while True:
            if self._group is not None:
                cgroup.kill(self._group)
            if self._keeper is not None:
                linux.send(self._keeper, signal.SIGCONT)
            with trio.move_on_after(KILL_AGAIN_S):
                return await self._emptied(ours)
            if self._keeper is not None:
                for stat in self._alive():
                    linux.send(stat, signal.SIGKILL)

    async def _emptied(self, ours: socket.socket) -> list[Leak]:
        """Wait for the keeper's last word. Without one it was killed, and what it kept has to be looked for: below the
        guardian, which kills it, in the control group, and by the marker.
        """
        await trio.lowlevel.wait_readable(ours)
        with contextlib.suppress(ConnectionResetError):
            if ours.recv(16):
                return []
        with trio.CancelScope(shield=True):
            alone = await guardian.alone(KILL_S)
            _, leaks = await reap_leftovers(self.marker, groups=self.policy.groups, term_s=0)
        if not alone and guardian.pid is not None:
            leaks.append(
                Leak(guardian.pid, "house-guardian", "it does not say that all is gone of a killed keeper's tree")
            )
        return leaks

    def _alive(self) -> list[linux.Stat]:
        if self._socket is None:
            return []
        now = linux.read(self._keeper.pid) if self._keeper else None
        if now is None or not now.alive or self._keeper is None or now.identity != self._keeper.identity:
            found = linux.marked([self.marker])
        else:
            found = [stat for stat in linux.descendants(now.pid) if stat.alive]
        if self._group is not None:
            strangers = cgroup.members(self._group) - {stat.pid for stat in found}
            found += [stat for stat in map(linux.read, strangers) if stat is not None and stat.alive]
        return found

    def _join(self, wanted: Program) -> None:
        """Have the control group that the program is to be in, within its bounds. Raises OSError."""
        limits, group = wanted.limits, wanted.group or None
        before = self._confined.limits if self._confined is not None else ResourceLimits()
        self._confined = Confined(limits, group, wanted.walled)
        if group is None:
            return
        if self._group is None:
            cgroup.make(group)
            self._group = group
        if limits != before:
            cgroup.bound(group, limits.tree_memory_bytes, limits.tree_cpus, limits.tree_processes)

    async def _stop_all(self) -> None:
        if self._group is not None and cgroup.freeze(self._group, frozen=True):
            await self._frozen(self._group)
        look_s = LOOK_S[0]
        before: set[tuple[int, int]] | None = None
        while True:
            if self._ended:
                raise trio.ClosedResourceError("the tree has ended")
            known = len(self._stopped)
            quiet, seen = self._stop_round()
            if quiet and seen == before and self._none_missed(seen):
                return
            before = seen if quiet else None
            look_s = LOOK_S[0] if quiet or len(self._stopped) > known else min(look_s * 2, LOOK_S[1])
            await trio.sleep(0 if quiet else look_s)

    async def _frozen(self, group: str) -> None:
        look_s = LOOK_S[0]
        while not cgroup.is_frozen(group) and cgroup.members(group):
            if self._ended:
                raise trio.ClosedResourceError("the tree has ended")
            await trio.sleep(look_s)
            look_s = min(look_s * 2, LOOK_S[1])

    def _stop_round(self) -> tuple[bool, set[tuple[int, int]]]:
        """Tell to stop who is not, and go down below who is. Returns whether all were stopped, and who all is."""
        quiet = True
        seen: set[tuple[int, int]] = set()
        frozen = cgroup.members(self._group) if self._group is not None else set()
        queue = [self._keeper.pid] if self._keeper else []
        for parent in queue:
            for stat in map(linux.read, linux.children(parent)):
                if stat is None or not stat.alive:
                    continue
                seen.add(stat.identity)
                if stat.pid in frozen or linux.stopped(stat):
                    queue.append(stat.pid)
                    continue
                quiet = False
                if all(stat.identity != known.identity for known in self._stopped):
                    self._stopped.append(stat)
                linux.send(stat, signal.SIGSTOP)
        return quiet, seen

    def _none_missed(self, seen: set[tuple[int, int]]) -> bool:
        """Whether that was everybody. A list of children that changes while it is read may miss one (proc(5)), and who
        forks and ends all the time is missed more than once.
        """
        return self._keeper is None or seen >= {stat.identity for stat in linux.found_below(self._keeper.pid)}

    def _wake(self) -> None:
        for stat in reversed(self._stopped):
            linux.send(stat, signal.SIGCONT)
        self._stopped.clear()
        if self._group is not None:
            cgroup.freeze(self._group, frozen=False)
        self._gate.release()

    def _say(self, message: tuple[str, int], descriptors: Sequence[int]) -> None:
        if self._socket is None:
            if problem := linux.missing():
                raise OSError(errno.ENOSYS, problem)
            self._socket = guardian.keep()
        socket.send_fds(self._socket, [marshal.dumps(message)], descriptors)

    def _wake_helpers(self) -> None:
        """Somebody may have stopped them."""
        guardian.wake()
        if self._keeper is not None:
            linux.send(self._keeper, signal.SIGCONT)

    def _signal(self, serial: int, signum: int) -> None:
        # A keeper that does not hear is dead or stopped; the end of the tree will deal with that.
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.send(marshal.dumps(("signal", serial, int(signum))))
