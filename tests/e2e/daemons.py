"""A real daemon for a test: started as a user starts it, ended by its pid, asked over its socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from web.client import RemoteHouse, Retry, open_remote
from web.places import DaemonFile

START_S = 60.0
PROGRAM = "import sys; from web.cli import main; sys.exit(main())"
PATIENT = Retry(attempts=200, min_s=0.05, max_s=0.2)
"""For clients that live through a restart of the daemon."""


class Daemon:
    """One state directory and the daemon on it; `start` may follow every end.

    `program`: what Python runs, for a daemon that is to differ from a user's in one thing.
    """

    def __init__(
        self, state: Path, *, grace_s: float = 5.0, env: Mapping[str, str] | None = None, program: str = PROGRAM
    ) -> None:
        self.state = state
        self.grace_s = grace_s
        self.program = program
        self.port = 0
        self._env = dict(env or {})
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.state / "admin.key").read_text().strip()

    async def start(self) -> None:
        """Until it says that it is ready; after a first time on the same port."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("ENGINEHOUSE_")} | {
            "ENGINEHOUSE_STATE_DIR": str(self.state),
            "ENGINEHOUSE_PORT": str(self.port),
            "ENGINEHOUSE_SERVER__GRACE_S": str(self.grace_s),
            **self._env,
        }
        command = [sys.executable, "-c", self.program, "serve"]
        log = (self.state.parent / f"{self.state.name}.log").open("ab")
        with log:
            self._process = await trio.lowlevel.open_process(
                command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        stdout = self._process.stdout
        assert stdout is not None
        said = b""
        with trio.fail_after(START_S):
            while b"\n" not in said:
                more = await stdout.receive_some()
                assert more, f"the daemon ended at its start; see {log.name}"
                said += more
        daemon = DaemonFile.read(self.state)
        assert daemon is not None
        self.port = int(daemon.url.rpartition(":")[2])

    async def wait(self) -> int:
        """Its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        assert self._process.stdout is not None
        await self._process.stdout.aclose()
        self._process = None
        return code

    async def kill(self) -> None:
        """Kill -9, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.wait()

    async def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None:
            await self.kill()

    @asynccontextmanager
    async def client(self, retry: Retry = PATIENT) -> AsyncIterator[RemoteHouse]:
        async with open_remote(self.url, api_key=self.key, retry=retry) as house:
            yield house


@asynccontextmanager
async def running(
    state: Path, *, grace_s: float = 5.0, env: Mapping[str, str] | None = None, program: str = PROGRAM
) -> AsyncIterator[Daemon]:
    """A daemon that is ready, and gone afterwards. The folder above `state` must be there."""
    daemon = Daemon(state, grace_s=grace_s, env=env, program=program)
    try:
        await daemon.start()
        yield daemon
    finally:
        with trio.CancelScope(shield=True):
            await daemon.end()


def processes_with(mark: str) -> list[int]:
    """The live processes whose command line or environment has `mark`; zombies have neither."""
    return sorted(_having(mark.encode()))


def _having(mark: bytes) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        for file in ("cmdline", "environ"):
            try:
                text = Path(entry.path, file).read_bytes()
            except OSError:  # it ended meanwhile, or is not ours
                continue
            if mark in text:
                yield int(entry.name)
                break
