"""Who is at a pane's terminal, as the kernel tells it: nobody has to be asked, and no terminal to be opened."""

from __future__ import annotations

import contextlib
import os
import signal

from actors.processes import linux

__all__ = ["Pane"]


class Pane:
    """`holder`: the pid of the session's leader, which keeps the pane open around the shell."""

    def __init__(self, holder: int) -> None:
        self._holder = holder

    @property
    def shell(self) -> int | None:
        """The pid of the shell; None while there is none."""
        return next(linux.children(self._holder), None)

    @property
    def shell_group(self) -> int | None:
        """The process group of the shell; None while there is none."""
        for pid in linux.children(self._holder):
            with contextlib.suppress(OSError):
                return os.getpgid(pid)
        return None

    @property
    def foreground(self) -> int:
        """The process group in the foreground; less than 1: none."""
        holder = linux.read(self._holder)
        return holder.foreground if holder is not None else -1

    @property
    def at_prompt(self) -> bool:
        """Nothing else is in the foreground: the shell is at its prompt, or busy with a command of its own."""
        return self.foreground == self.shell_group

    def signal(self, signum: int, *, shell: int | None = None) -> None:
        """To what is in the foreground; `shell` instead, where that is given and it is the shell."""
        with contextlib.suppress(OSError):
            group = self.foreground
            if group > 0:
                os.killpg(group, shell if shell is not None and group == self.shell_group else signum)

    def kill_shell(self) -> None:
        for pid in linux.children(self._holder):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
