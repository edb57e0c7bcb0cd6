"""The order to start a program, and the answer: what `Tree.spawn` sends to its keeper and hears from it."""

from __future__ import annotations

import errno
import marshal
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import trio

from actors.children import ChildPolicy, Outside, Place, ResourceLimits, Sandbox
from actors.processes import confine, linux
from actors.processes.sandbox import Shut, shut
from actors.told import Told

Reason = Literal["missing-program", "wrong-directory", "not-executable", "no-sandbox", "no-limit", "failed"]
LATE_S = 0.5
"""After how much silence the helpers are thought to be stopped by somebody."""

CPU_MARGIN_S = 1
"""How long after SIGXCPU a process that goes on is killed."""


class SpawnFailed(Told):
    """A program could not be started; nothing of it is left. `errno` is what the system answered."""

    def __init__(self, sentence: str, *, reason: Reason, errno: int, argv0: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.errno = errno
        self.argv0 = argv0


@dataclass(frozen=True, slots=True)
class Program:
    """What is to run, and where, and within which bounds."""

    argv: tuple[str, ...]
    place: Place
    env: Mapping[str, str]
    terminal: bool
    policy: ChildPolicy
    limits: ResourceLimits
    shut: Shut
    group: str = ""

    @property
    def wall(self) -> bool:
        """Whether it gets a wall of its own: a sandbox is one as well, or has one around it."""
        policy = self.policy
        if not policy.wall or self.shut.landlock is not None:
            return False
        return (policy.no_new_privs or os.geteuid() == 0) and confine.landlock_version() >= confine.SCOPE_VERSION

    @property
    def walled(self) -> bool:
        """Whether it can signal and trace nothing but what is its own."""
        alone = self.shut.landlock is not None and confine.landlock_version() >= confine.SCOPE_VERSION
        return self.wall or alone or bool(self.shut.before)

    def packed(self) -> bytes:
        """What `keeper.fork_program` takes."""
        place, policy = self.place, self.policy
        enter = (
            os.fsencode(place.root), [os.fsencode(step) for step in place.beneath], place.links, place.made,
            [os.fsencode(folder) for folder in policy.private], os.fsencode(policy.workspaces or ""),
        )  # fmt: skip
        return marshal.dumps(
            {
                "argv": [os.fsencode(word) for word in (*self.shut.before, *self.argv)],
                "env": {os.fsencode(name): os.fsencode(value) for name, value in self.env.items()},
                "place": enter,
                "terminal": self.terminal,
                "umask": policy.umask,
                "no_new_privs": policy.no_new_privs or self.shut.landlock is not None,
                "limits": rlimits(self.limits),
                "group": self.group,
                "wall": self.wall,
                "landlock": self.shut.landlock,
                "opened": self.shut.opened,
            }
        )

    def failed(self, stage: str, code: int) -> SpawnFailed:
        """The one sentence for what failed: `stage` as in `keeper.fork_program`, `code` an errno."""
        said = os.strerror(code)
        reason: Reason = "failed"
        argv0 = self.argv[0] if self.argv else ""
        where = self.place.path
        if stage == "directory":
            reason = "wrong-directory"
            if code == errno.EPERM:
                sentence = f"nothing may start in the folder {where!r}: it is the house's own"
            elif code == errno.ELOOP and not self.place.links:
                sentence = f"cannot start in the folder {where!r}: a link is on the way there"
            else:
                sentence = f"cannot start in the folder {where!r}: {said}"
        elif stage == "sandbox":
            reason, sentence = "no-sandbox", f"cannot shut {argv0!r} into its sandbox: {said}"
            if code == errno.EPERM:
                sentence += ", or it would open the house's own directory"
        elif stage == "group":
            sentence = f"cannot put {argv0!r} into its control group {self.group!r}: {said}"
        elif stage == "program" and code in (errno.ENOENT, errno.ENOTDIR):
            reason, sentence = "missing-program", f"there is no program {argv0!r}" + self._searched()
        elif stage == "program" and code in (errno.EACCES, errno.ENOEXEC, errno.EISDIR):
            reason, sentence = "not-executable", f"{argv0!r} cannot be executed: {said}"
        else:
            sentence = f"cannot start {argv0!r}: {said} ({stage})"
        return SpawnFailed(sentence, reason=reason, errno=code, argv0=argv0)

    def unlimited(self, name: str, why: str) -> SpawnFailed:
        """For a limit that cannot be set."""
        sentence = f"cannot start {self.argv[0]!r}: its limit {name} {why}"
        return SpawnFailed(sentence, reason="no-limit", errno=errno.EOPNOTSUPP, argv0=self.argv[0])

    def _searched(self) -> str:
        return "" if "/" in self.argv[0] else f" in PATH {self.env.get('PATH', os.defpath)!r}"


def program(
    argv: Sequence[str],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    marker: str,
    *,
    terminal: bool,
    policy: ChildPolicy,
    workspace: str | None = None,
    limits: ResourceLimits | None = None,
    sandbox: Sandbox | None = None,
    group: str = "",
) -> Program:
    """Raises SpawnFailed for words that no system can take, and for what the house does not allow."""
    wanted = {**(policy.environment() if env is None else env), linux.MARKER: marker}
    where = os.fspath(cwd) if cwd is not None else "."
    bounds = (limits or ResourceLimits()).over(policy.limits)
    made = Program(tuple(argv), Place(where), wanted, terminal, policy, bounds, Shut(), group)
    words = [*made.argv, where, *wanted, *wanted.values()]
    if not made.argv or any("\0" in word for word in words) or any("=" in name or not name for name in wanted):
        raise made.failed("arguments", errno.EINVAL)
    if lacking := policy.lacking(bounds):
        raise made.unlimited(*lacking)
    try:
        made = replace(made, place=policy.place(where) if workspace is None else policy.workspace(workspace))
        if sandbox is not None:
            made = replace(made, shut=shut(sandbox, made.place.path))
    except FileNotFoundError as error:  # our own directory was removed
        raise made.failed("directory", errno.ENOENT) from error
    except Outside as error:
        sentence = f"cannot start {made.argv[0]!r}: {error}"
        raise SpawnFailed(sentence, reason="wrong-directory", errno=errno.EPERM, argv0=made.argv[0]) from None
    return made


def rlimits(limits: ResourceLimits) -> list[tuple[int, int, int]]:
    """(resource, soft, hard) for `confine.limit`. Descriptors are as many as programs expect, not what we took."""
    found = [(resource.RLIMIT_NOFILE, confine.NOFILE_SOFT, -1)]
    if limits.files is not None:
        found = [(resource.RLIMIT_NOFILE, limits.files, limits.files)]
    if limits.cpu_s is not None:
        found.append((resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + CPU_MARGIN_S))
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, limits.core_bytes),
    ):
        if most is not None:
            found.append((what, most, most))
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """Two pids, and the stage and the errno of what failed; no stage when nothing did."""

    keeper: int
    pid: int
    stage: str = ""
    code: int = 0


async def answer(reply: int, late: Callable[[], None]) -> Answer:
    """Read what the keeper and the program to be say about the start, until exec closes the other end. `late` is called
    every `LATE_S` until something is heard.
    """
    os.set_blocking(reply, False)
    heard = b""
    while True:
        with trio.move_on_after(LATE_S) as silence:
            await trio.lowlevel.wait_readable(reply)
        if silence.cancelled_caught:
            late()
            continue
        words = os.read(reply, 256)
        if not words:
            break
        heard += words
    match heard.decode().split():
        case [keeper, pid]:
            return Answer(int(keeper), int(pid))
        case [keeper, pid, stage, code]:
            return Answer(int(keeper), int(pid), stage, int(code))
    return Answer(0, 0, "keeper", errno.ESRCH)  # it died before it could say anything
