"""Process trees that outlive their house: where the next house finds them, and how it takes them over.

An ordinary keeper kills its tree when the daemon dies. One that lasts is a program of its own, in no tree of ours, with
a socket in a folder that only we may enter: the tree's home. The daemon that has hold of it is the one that is
connected and has said its key, which whoever is shut into a sandbox cannot read; when that daemon dies the keeper waits
for the next. Nothing else differs: it is the subreaper of all below it, it
starts and signals, there is a guardian above it, and its last word proves that nothing is left. Where the house has
control groups the tree has one, which outlives the house as well; the keeper knows which it is.

A home is named by the engine's uid alone, so a house that has forgotten an engine finds its tree by that nobody claims
the name, and ends it (`standing`, `Tree.end`).
"""

from __future__ import annotations

import array
import marshal
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from actors.processes.guardian import PROGRAM, ROOT
from actors.removal import remove

__all__ = ["NAME_LENGTH", "Held", "Home", "homes", "standing", "tell_frozen"]

CALL_S = 5.0
"""A keeper that says nothing for this long is as good as dead."""

CALL_AGAIN_S = 0.02
"""How soon one that had no time is called again."""

CALLERS = 16
"""How many may wait at a keeper's socket. Each that says nothing costs `keeper.KEY_S`: all of them less than `CALL_S`.
What it keeps can call too, and is not waited for.
"""

KEY_BYTES = 32

NAME_LENGTH = 12
"""How much of a uid names a home: its random end. A path to a socket may have 107 bytes (unix(7))."""


@dataclass(frozen=True, slots=True)
class Held:
    """A keeper that we are connected to. `guardian`: the pid of the one above it, 0 when that was killed; `serial`: the
    highest number of a program that it started; `group`: the control group of these, or ""; `frozen`: (pid, start) of
    what the last tree had stopped.
    """

    socket: socket.socket
    keeper: int
    guardian: int
    serial: int
    group: str
    frozen: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one tree: `keeper` is its keeper's socket, `key` the word for it, and `own` a folder of its
    engine's, also for programs in its sandbox. `lasts`: whether the tree is to outlive us; if not, it is a folder like
    another, removed with the tree.
    """

    path: Path
    lasts: bool

    @classmethod
    def of(cls, folder: Path, uid: str, *, lasts: bool) -> Home:
        return cls(folder / uid[-NAME_LENGTH:], lasts)

    @property
    def own(self) -> Path:
        return self.path / "own"

    @property
    def occupied(self) -> bool:
        """Whether something was left here. Reads the disk."""
        return os.path.lexists(self.path)

    def marker(self, house: str) -> str:
        """By which a tree is found that lost its keeper."""
        return f"{house}.lasting.{self.path.name}"

    def make(self) -> None:
        """Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.own.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """What cannot be removed stays for the next house."""
        with suppress(OSError):
            remove(self.path)

    async def vacate(self) -> None:
        """Remove it in a thread, which may take as long as it holds much. Where no thread can be had it stays, too."""
        with suppress(RuntimeError):
            await trio.to_thread.run_sync(self.remove, limiter=trio.CapacityLimiter(1))

    async def call(self) -> Held | None:
        """Take hold of the keeper here; None when there is none that answers. Raises OSError when that cannot be known,
        for example without a free descriptor.
        """
        with trio.move_on_after(CALL_S):
            try:
                key = (self.path / "key").read_bytes()
                while (held := await self._called(key)) is None:  # noqa: ASYNC110 - it does not tell when it has time
                    await trio.sleep(CALL_AGAIN_S)
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError, ValueError, TypeError):
                return None
            return held
        return None

    async def reach(self) -> Held | None:
        """The same, where what cannot be known is as good as nothing."""
        try:
            return await self.call()
        except OSError:
            return None

    async def _called(self, key: bytes) -> Held | None:
        """None when it was too busy to hear us. ValueError, TypeError: it answers what is no answer."""
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            ours.connect(str(self.path / "keeper"))
            ours.send(key)
            await trio.lowlevel.wait_readable(ours)
            hello, given, _, _ = socket.recv_fds(ours, 4096, 1)
            frozen = _listed(given)
            keeper, guardian, serial, group = marshal.loads(hello)  # noqa: S302 - written by our own program
            return Held(ours, keeper, guardian, serial, group, frozen)
        except (BlockingIOError, EOFError, ConnectionResetError, BrokenPipeError):
            # Too many call (connect(2)), or we were slow to say the key.
            ours.close()
            return None
        except BaseException:
            ours.close()
            raise

    async def settle(self) -> Held:
        """Start a keeper here and take hold of it. Raises OSError."""
        self.make()
        where, key = self.path / "keeper", self.path / "key"
        null = Path(os.devnull).open("r+b", 0)  # noqa: ASYNC230, SIM115 - at once; closed below
        with null, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            for file in (where, key):
                file.unlink(missing_ok=True)
            key.touch(mode=0o600)
            key.write_bytes(secrets.token_bytes(KEY_BYTES))
            door.bind(str(where))
            door.listen(CALLERS)
            os.posix_spawn(  # noqa: ASYNC221 - it is only started
                sys.executable,
                [sys.executable, "-I", "-S", "-c", PROGRAM, ROOT, "last", str(self.path)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, door.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, null.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, null.fileno(), 2),
                ],
                setsid=True,
            )
        held = await self.call()
        if held is None:
            raise TimeoutError("the keeper of the process tree did not start")
        return held


def tell_frozen(keeper: socket.socket, identities: Sequence[tuple[int, int]]) -> bool:
    """Have a keeper know what its tree has stopped, for the next house. False: it has not read what it was told before.
    One that is gone is told nothing: the end of the tree deals with that.
    """
    descriptor = os.memfd_create("frozen", os.MFD_CLOEXEC)
    flat = array.array("q", [number for identity in identities for number in identity])
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(flat.tobytes())
        file.flush()
        try:
            socket.send_fds(keeper, [marshal.dumps(("frozen",))], [descriptor])
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def _listed(descriptors: list[int]) -> tuple[tuple[int, int], ...]:
    found = array.array("q")
    for descriptor in descriptors:
        found.frombytes(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        os.close(descriptor)
    return tuple(zip(found[::2], found[1::2], strict=True))


def homes(folder: Path) -> list[Home]:
    """All that were left in a folder. Reads the disk."""
    return [Home(path, lasts=True) for path in sorted(folder.iterdir())] if folder.is_dir() else []


async def standing(folder: Path) -> list[Home]:
    """The homes in a folder whose keepers answer, or of which that cannot be known; of the others nothing can be taken
    over.
    """
    found = []

    async def ask(home: Home) -> None:
        try:
            held = await home.call()
        except OSError:
            found.append(home)
            return
        if held is not None:
            held.socket.close()
            found.append(home)

    async with trio.open_nursery() as nursery:
        for home in homes(folder):
            nursery.start_soon(ask, home)
    return found
