"""What the shell in the pane is told: small files that it sources, each with a number, in the engine's own folder.

A run is `. <folder>/<n>`, typed at the prompt as a person would. That file removes itself first, so that it cannot
begin twice and whether it has begun can be seen; then it says so on the terminal, sources the command, and says its
exit status, on the terminal and in a file, which is there for whoever was not listening. While the command runs the
terminal does not echo what somebody types.

A command that is interrupted takes the rest of the order with it. So the prompt, which always follows, says the same in
its place where it still can; and where a command has removed that, `ending` is typed once it was told to end. Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath

__all__ = ["PANE", "Orders", "exports"]

FLAGS = {"bash": ("--norc", "--noprofile", "-i")}

PANE = r"""trap : INT QUIT
unset PWD OLDPWD
exec 2>/dev/null
"$@" 2>/dev/tty
status=$?
trap '' INT QUIT
printf %s "$status" >|'{exit}'
printf '{mark}' "x$status" >/dev/tty
printf '\r\n[the shell has ended with status %s; the next run begins another]\r\n' "$status" >/dev/tty
exec sleep 2147483647"""
"""Stands between tmux and the shell: it keeps the terminal open until everything that was written there is read, and
says how the shell has ended. It lets go of a PWD that is tmux's.
"""

ORDER = """if command rm -- {own} 2>/dev/null; then {{
command stty -echo opost onlcr </dev/tty
{told}_enginehouse={n}
command printf '{mark}' b{n} >/dev/tty
. {command} <{feed} >/dev/tty 2>&1
{ended}
}} 2>/dev/null; fi
"""

ENDED = """_enginehouse_status=$?
command stty echo </dev/tty
command printf %s "$_enginehouse_status" >|{status}
unset _enginehouse
command printf '{mark}' "e{n}x$_enginehouse_status" >/dev/tty"""

AT_PROMPT = """_enginehouse_prompt() {{
    [ -z "${{_enginehouse-}}" ] || {{
        command stty echo </dev/tty
        command printf %s "$1" >|{folder}/"$_enginehouse".status
        command printf '{mark}' "i${{_enginehouse}}x$1" >/dev/tty
        unset _enginehouse
    }} 2>/dev/null
    command printf '{mark}' p >/dev/tty
}}
"""

PREPARE = 'unset HISTFILE; HISTCONTROL=ignoreboth; ( : ); stty() { command stty "$@" </dev/tty; }\n'
"""As in `session.PREPARE`; a line that begins with a space, as ours do, is not for a person's history."""


class Orders:
    """The files of one session. `mark`: its `Marks.printf`."""

    def __init__(self, folder: Path, shell: str, mark: str) -> None:
        self._folder, self._shell, self._mark = folder, shell, mark

    @property
    def pane(self) -> list[str]:
        """The program that tmux is to start."""
        name = PurePath(self._shell).name
        text = PANE.replace("{mark}", self._mark).replace("'{exit}'", self._path("exit"))
        return ["/bin/sh", "-c", text, "sh", self._shell, *FLAGS.get(name, ("-i",))]

    def begin(self) -> None:
        """Before the pane's program is started."""
        (self._folder / "exit").unlink(missing_ok=True)

    def ended(self) -> int | None:
        """The exit status of a shell that has ended."""
        return self._number("exit")

    @property
    def prepare(self) -> str:
        """The first command of a session."""
        hook = AT_PROMPT.format(folder=shlex.quote(str(self._folder)), mark=self._mark)
        if PurePath(self._shell).name == "bash":
            return PREPARE + hook + "PROMPT_COMMAND='_enginehouse_prompt \"$?\"'\n"
        return PREPARE + hook + "PS1='$(_enginehouse_prompt \"$?\")$ '\n"

    def write(self, n: int, command: str, stdin: str | None, told: str) -> None:
        """The files of command `n`. Raises OSError."""
        feed = "/dev/null"
        if stdin is not None:
            self._write(f"{n}.in", stdin)
            feed = self._path(f"{n}.in")
        self._write(f"{n}.sh", command)
        order = ORDER.format(
            own=self._path(n), told=told, n=n, mark=self._mark, command=self._path(f"{n}.sh"), feed=feed,
            ended=self._ended(n),
        )  # fmt: skip
        self._write(str(n), order)

    def typed(self, n: int) -> str:
        """What is typed to have it run."""
        return f" . {self._path(n)}\r"

    def ending(self, n: int) -> str:
        """What is typed when it has ended and could not say so. Raises OSError."""
        self._write(f"{n}.end", f"{{\n{self._ended(n)}\n}} 2>/dev/null\n")
        return f" . {self._path(f'{n}.end')}\r"

    def withdraw(self, n: int) -> bool:
        """Whether it had not begun; it never will, then."""
        try:
            (self._folder / str(n)).unlink()
        except FileNotFoundError:
            return False
        return True

    def waits(self, n: int) -> bool:
        """Whether it has not begun."""
        return (self._folder / str(n)).exists()

    def status(self, n: int) -> int | None:
        """The exit status of a command that has ended."""
        return self._number(f"{n}.status")

    def _number(self, name: str) -> int | None:
        try:
            return int((self._folder / name).read_text())
        except (OSError, ValueError):
            return None

    def forget(self, n: int) -> None:
        for name in (str(n), *(f"{n}.{what}" for what in ("sh", "in", "end", "status"))):
            (self._folder / name).unlink(missing_ok=True)

    def _ended(self, n: int) -> str:
        return ENDED.format(n=n, mark=self._mark, status=self._path(f"{n}.status"))

    def _path(self, name: int | str) -> str:
        return shlex.quote(str(self._folder / str(name)))

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_bytes(text.encode())


def exports(env: Mapping[str, str]) -> str:
    """Shell text that sets them."""
    return "".join(f"export {name}={shlex.quote(value)}; " for name, value in env.items())
