"""Every process that one incarnation of an engine started, and what became of those.

A tree is what stands below one keeper (`keeper.py`). The keeper is forked with the first program, so that a tree that
never started anything costs nothing and ends at once. The kernel hands every orphan of the tree to the keeper: listing,
freezing and ending follow parentage alone, and the keeper's last word, "empty", is a proof. Where the house has control
groups a tree has one as well, and the kernel freezes and kills it in one step (`cgroup.py`). The marker in the
environment is the last line of defence: a later daemon finds by it what is left, and so does a tree whose keeper
somebody killed.

How it is frozen is told in `standstill.py`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import marshal
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import trio

from actors.children import CONTROLLER_OF, ChildPolicy, ResourceLimits, Sandbox
from actors.processes import cgroup, linux
from actors.processes.confined import Confined
from actors.processes.guardian import guardian
from actors.processes.lasting import Held, Home, tell_frozen
from actors.processes.leftovers import reap_leftovers
from actors.processes.listing import KILL_S, Leak, Listing, Meter, ProcessInfo, cpu_s, info, leak
from actors.processes.newer import Newer
from actors.processes.process import Process
from actors.processes.spawning import Program, answer, program, rlimits
from actors.processes.standstill import Standstill
from actors.processes.streams import Descriptors, pipe, pipes, terminal

LEAVE_S = 1.0
"""How long our own programs have to end by themselves when the tree is left, and a keeper after its last word."""

GUARDIAN = "house-guardian"

KILL_AGAIN_S = 0.1
"""How often a keeper that does not end its tree is helped with it."""


class Tree:
    """All processes of one incarnation. `marker` is `<house>.<engine uid>.<incarnation>`, unique on the machine.
    `policy`: what all that it starts are started with. `home`: removed when it has ended; where that lasts the tree
    outlives us, unless it is ended.

    Whoever makes a tree calls `end`: nothing else lets go of its keeper. A tree belongs to one trio run.
    """

    def __init__(self, marker: str, policy: ChildPolicy | None = None, home: Home | None = None) -> None:
        self.marker = marker
        self.policy = policy or ChildPolicy()
        self.home = home
        self.frozen = False
        self._socket: socket.socket | None = None  # to the keeper, from the first program to the proof
        self._keeper: linux.Stat | None = None
        self._guardian: linux.Stat | None = None  # of a tree that lasts
        self._serial = itertools.count(1)
        self._started: list[Process] = []
        self._group: str | None = None  # from the first program on, as long as the socket
        self._adopted = self._looked = False
        self._confined: Confined | None = None
        self._bound: ResourceLimits | None = None
        self._meter = Meter()
        self._standstill = Standstill(self._tell_frozen)
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
        wanted = program(
            argv, cwd, env, self.marker, terminal=pty is not None, policy=self.policy, workspace=workspace,
            limits=limits, sandbox=sandbox,
        )  # fmt: skip
        async with self._gate:
            if self._ended:
                raise wanted.failed("the tree has ended", errno.ESHUTDOWN)
            if self._socket is None and (home := self._lasting) is not None:
                try:
                    if not await self._take_over(home):
                        self._hold(await home.settle())
                except OSError as error:
                    raise wanted.failed("keeper", error.errno or errno.EIO) from error
            wanted = self._grouped(wanted)
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

    async def adopt(self) -> bool:
        """Take over what an earlier house left in our home, thawed. False: nothing that could be taken over. Raises
        OSError when that cannot be known, for example without a free descriptor.
        """
        async with self._gate:
            home = self._lasting
            return home is not None and await self._take_over(home)

    @property
    def lasts(self) -> bool:
        """Whether it outlives us, unless it is ended."""
        return self._lasting is not None

    @property
    def _lasting(self) -> Home | None:
        return self.home if self.home is not None and self.home.lasts else None

    async def look(self) -> bool:
        """Know what an earlier house left, for `listing` alone, and leave it as it is. False: nothing that answers."""
        home = self._lasting
        held = await home.reach() if home is not None and home.occupied else None
        if held is None:
            return False
        self._hold(held)
        held.socket.close()  # whoever takes it over does not wait for us
        self._socket, self._ended, self._looked = None, True, True
        return True

    async def _take_over(self, home: Home) -> bool:
        held = await home.call() if home.occupied else None
        if held is None:
            return False
        self._hold(held)
        self._adopted = True
        for pid, start_ticks in reversed(held.frozen):
            stat = linux.read(pid)
            if stat is not None and stat.identity == (pid, start_ticks):
                linux.send(stat, signal.SIGCONT)
        if self._group is not None:
            cgroup.freeze(self._group, frozen=False)
        self._tell_frozen()
        return True

    def _hold(self, held: Held) -> None:
        self._socket, self._keeper, self._group = held.socket, linux.read(held.keeper), held.group or None
        self._guardian = linux.read(held.guardian) if held.guardian else None
        self._serial = itertools.count(held.serial + 1)

    async def leave(self) -> None:
        """Let go of a tree that lasts, for the next house to adopt; what is frozen stays so. Starts nothing more."""
        self._ended = True
        with trio.move_on_after(0 if self.frozen else LEAVE_S, shield=True):
            for process in self._started:
                await process.wait()
        for process in self._started:
            process.forget()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def bind(self, pid: int, limits: ResourceLimits) -> None:
        """Let these, over the policy's, hold for a process of the tree and what it starts. `confined` names them from
        then on. Raises OSError.
        """
        self._bound = limits.over(self.policy.limits)
        for what, soft, hard in rlimits(self._bound):
            _, most = resource.prlimit(pid, what)
            ceiling = most if hard < 0 else hard if most < 0 else min(hard, most)
            resource.prlimit(pid, what, (soft if ceiling < 0 else min(soft, ceiling), ceiling))

    def processes(self) -> list[ProcessInfo]:
        """The live tree, parents before children."""
        return self.listing().processes

    def listing(self) -> Listing:
        """The same, with what all used. A look at a process that hangs may take a while, so call it in a thread."""
        stats = self._alive()
        shares, booted_at = self._meter.read(stats), linux.booted_at()
        frozen = cgroup.members(self._group) if self._group is not None and cgroup.is_frozen(self._group) else set()
        found = [
            info(stat, percent=shares[stat.identity], frozen=stat.pid in frozen, booted_at=booted_at) for stat in stats
        ]
        keeper = linux.read(self._keeper.pid) if self._keeper is not None else None
        return Listing(found, cpu_s(stats, keeper, self._group))

    @property
    def starved(self) -> bool:
        """Whether the kernel has ended a process because all together used more memory than they may."""
        return self._group is not None and cgroup.used(self._group).get("killed", 0) > 0

    @property
    def confined(self) -> Confined | None:
        """What holds its processes, by what was bound last, else by what was started last; None when nothing was."""
        if self._confined is None or self._bound is None:
            return self._confined
        return replace(self._confined, limits=self._bound)

    def alive(self) -> frozenset[tuple[int, int]]:
        """Who is in the tree now, each by pid and start."""
        return frozenset(stat.identity for stat in self._alive())

    async def end_newer(
        self,
        before: frozenset[tuple[int, int]],
        parent: int,
        term_s: float,
        *,
        meant: Callable[[linux.Stat], bool] = lambda _: True,
    ) -> list[Leak]:
        """End what came since `alive` was `before`, and leave what those have started since: SIGTERM, at most `term_s`
        seconds, SIGKILL, at most `KILL_S` seconds. `parent` was there, and what it has started since ends all the same.

        `meant`: of the children of `parent` and the orphans, which are to end, each with all below it. A program that
        we started is none of these.

        Returns what could not be ended. Cancellation does not cut it short.
        """
        if self._keeper is None:
            return []
        spared = {process.pid for process in self._started if process.returncode is None}
        newer = Newer(self._keeper.pid, before, parent, spared, meant)
        leaks: list[Leak] = []
        with trio.CancelScope(shield=True):
            leaks += await newer.end(term_s)
        return leaks

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
                keeper = self._keeper.pid if self._keeper is not None else None
                await self._standstill.begin(keeper, self._group, self._check_not_ended)
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
                leaks: list[Leak] = []
                if self._socket is None and (home := self._lasting) is not None and home.occupied:
                    leaks = await self._take_over_to_end(home)
                if self._socket is not None:
                    leaks = await self._end(self._socket, term_s)
                if self.home is not None and not leaks:
                    await self.home.vacate()
        return leaks

    async def _take_over_to_end(self, home: Home) -> list[Leak]:
        """Frozen stays frozen until it is told to end. Without a keeper what is left is found by its marker, and in its
        control group; the result is what of that could not be ended.
        """
        held = await home.reach()
        if held is not None:
            self._hold(held)
            return []
        return (await reap_leftovers(self.marker, groups=self.policy.groups))[1]

    async def _end(self, ours: socket.socket, term_s: float) -> list[Leak]:
        if self.frozen:
            # The keeper sends SIGTERM and only then lets run: nothing goes on in between as if nothing had happened.
            self.frozen = False
            self._standstill.forget()
            self._gate.release()
        with contextlib.suppress(OSError):
            ours.send(marshal.dumps(("end",)))
        leaks: list[Leak] | None = None
        with trio.move_on_after(term_s):
            leaks = await self._emptied(ours)
        if leaks is None:
            with contextlib.suppress(OSError):
                if self._lasting is not None:
                    ours.send(marshal.dumps(("kill",)))
                else:
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
        if self._lasting is not None:
            await self._guardian_gone(LEAVE_S)
        else:
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

    async def _guardian_gone(self, within_s: float) -> bool:
        """Wait for the end of a lasting tree's own guardian: it leaves when nothing is below it."""
        above = self._guardian
        if above is None:
            return True
        gone = False
        with contextlib.suppress(OSError), trio.move_on_after(within_s):
            pidfd = os.pidfd_open(above.pid)
            try:
                linux.send(above, signal.SIGCONT)  # somebody may have stopped it
                await trio.lowlevel.wait_readable(pidfd)
                gone = True
            finally:
                os.close(pidfd)
        with contextlib.suppress(ChildProcessError):  # it is our child, unless we took the tree over
            os.waitpid(above.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        return gone or linux.read(above.pid) is None

    async def _emptied(self, ours: socket.socket) -> list[Leak]:
        """Wait for the keeper's last word. Without one it was killed, and what it kept has to be looked for: below the
        guardian, which kills it, in the control group, and by the marker.
        """
        await trio.lowlevel.wait_readable(ours)
        with contextlib.suppress(ConnectionResetError):
            if ours.recv(16):
                return []
        with trio.CancelScope(shield=True):
            alone = await (guardian.alone(KILL_S) if self._lasting is None else self._guardian_gone(KILL_S))
            _, leaks = await reap_leftovers(self.marker, groups=self.policy.groups, term_s=0)
        above = guardian.pid if self._lasting is None else self._guardian.pid if self._guardian is not None else None
        if not alone and above is not None:
            leaks.append(Leak(above, GUARDIAN, "it does not say that all is gone of a killed keeper's tree"))
        return leaks

    def _alive(self) -> list[linux.Stat]:
        if self._socket is None and not self._looked:
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

    def _grouped(self, wanted: Program) -> Program:
        """With the control group that it goes to: there is one for all programs of a tree, or none. Raises
        SpawnFailed for a limit that needs one, of a tree that was begun by a house that had none.
        """
        groups = self.policy.groups
        if not self._adopted and groups is not None:
            return replace(wanted, group=groups.path(self.marker))
        limited = [name for name in CONTROLLER_OF if getattr(wanted.limits, name) is not None]
        if self._group is None and limited:
            raise wanted.unlimited(limited[0], "bounds a whole tree, and this one was begun without a control group")
        return replace(wanted, group=self._group or "")

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

    def _tell_frozen(self) -> bool:
        """Tell the keeper of a lasting tree what the next house has to wake. False: it has no room for that now."""
        return self._socket is None or not self.lasts or tell_frozen(self._socket, self._standstill.stopped)

    def _wake(self) -> None:
        self._standstill.end(self._group)
        self._tell_frozen()
        self._gate.release()

    def _check_not_ended(self) -> None:
        if self._ended:
            raise trio.ClosedResourceError("the tree has ended")

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
