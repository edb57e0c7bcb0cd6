"""The order to start a program, and the answer: what `Tree.spawn` sends to its keeper and hears from it."""

from __future__ import annotations

import errno
import marshal
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import trio

from actors.processes import linux

Reason = Literal["missing-program", "wrong-directory", "not-executable", "failed"]
INHERITED = ("PATH", "HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ")


class SpawnFailed(Exception):
    """A program could not be started; nothing of it is left. `errno` is what the system answered."""

    def __init__(self, sentence: str, *, reason: Reason, errno: int, argv0: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.errno = errno
        self.argv0 = argv0


@dataclass(frozen=True, slots=True)
class Program:
    """What is to run, and where. `cwd` is absolute."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    terminal: bool

    def packed(self) -> bytes:
        env = {os.fsencode(name): os.fsencode(value) for name, value in self.env.items()}
        return marshal.dumps(([os.fsencode(word) for word in self.argv], env, os.fsencode(self.cwd), self.terminal))

    def failed(self, stage: str, code: int) -> SpawnFailed:
        """The one sentence for what failed: `stage` as in `keeper.fork_program`, `code` an errno."""
        said = os.strerror(code)
        reason: Reason = "failed"
        argv0 = self.argv[0] if self.argv else ""
        if stage == "directory":
            reason, sentence = "wrong-directory", f"cannot start in the folder {self.cwd!r}: {said}"
        elif stage == "program" and code in (errno.ENOENT, errno.ENOTDIR):
            reason, sentence = "missing-program", f"there is no program {argv0!r}" + self._searched()
        elif stage == "program" and code in (errno.EACCES, errno.ENOEXEC, errno.EISDIR):
            reason, sentence = "not-executable", f"{argv0!r} cannot be executed: {said}"
        else:
            sentence = f"cannot start {argv0!r}: {said} ({stage})"
        return SpawnFailed(sentence, reason=reason, errno=code, argv0=argv0)

    def _searched(self) -> str:
        return "" if "/" in self.argv[0] else f" in PATH {self.env.get('PATH', os.defpath)!r}"


def program(
    argv: Sequence[str],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    marker: str,
    *,
    terminal: bool,
) -> Program:
    """Raises SpawnFailed for words that no system can take."""
    wanted = {**(inherited() if env is None else env), linux.MARKER: marker}
    made = Program(tuple(argv), os.fspath(cwd) if cwd is not None else ".", wanted, terminal)
    words = [*made.argv, made.cwd, *wanted, *wanted.values()]
    if not made.argv or any("\0" in word for word in words) or any("=" in name or not name for name in wanted):
        raise made.failed("arguments", errno.EINVAL)
    try:
        return Program(made.argv, os.path.abspath(made.cwd), wanted, terminal)  # noqa: PTH100 - keeps the links of a path
    except FileNotFoundError as error:  # our own directory was removed
        raise made.failed("directory", errno.ENOENT) from error


def inherited() -> dict[str, str]:
    """What a program gets of our environment unless it is given one: no variable that could hold a secret."""
    return {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("LC_")}


@dataclass(frozen=True, slots=True)
class Answer:
    """Two pids, and the stage and the errno of what failed; no stage when nothing did."""

    keeper: int
    pid: int
    stage: str = ""
    code: int = 0


async def answer(reply: int) -> Answer:
    """Read what the keeper and the program to be say about the start, until exec closes the other end."""
    os.set_blocking(reply, False)
    heard = b""
    while True:
        await trio.lowlevel.wait_readable(reply)
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
