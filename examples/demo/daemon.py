"""A daemon of the demo's own, as a user starts it: it may be killed and started again on the same journal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT

import trio

from examples.demo.saying import DemoFailed

__all__ = ["Daemon", "daemon_in"]

SERVE = [str(Path(sys.executable).with_name("enginehouse")), "serve"]


@dataclass
class Daemon:
    """`port` 0 until the first start has found a free one; every later start uses the same."""

    state: Path
    port: int = 0
    process: trio.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.state / "admin.key").read_text().strip()

    async def start(self) -> float:
        """Start it and wait until it says that it serves; the seconds that this took."""
        before = time.monotonic()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEHOUSE_")}
        environ |= {
            "ENGINEHOUSE_STATE_DIR": str(self.state),
            "ENGINEHOUSE_PORT": str(self.port),
            "XDG_CONFIG_HOME": str(self.state),  # nobody's own settings
        }
        self.process = await trio.lowlevel.open_process(SERVE, env=environ, stdout=PIPE, stderr=STDOUT)
        assert self.process.stdout is not None
        said = b""
        while b" is at http" not in said:
            piece = await self.process.stdout.receive_some()
            if not piece:
                raise DemoFailed(f"the daemon did not start: exit code {await self.process.wait()}, {said.decode()}")
            said += piece
        self.port = int(json.loads((self.state / "daemon.json").read_bytes())["url"].rpartition(":")[2])
        return time.monotonic() - before

    async def kill(self) -> None:
        """What `kill -9` does."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@asynccontextmanager
async def daemon_in(state: Path) -> AsyncIterator[Daemon]:
    """A daemon that does not outlive the block."""
    daemon = Daemon(state)
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.returncode is None:
            daemon.process.kill()
            with trio.CancelScope(shield=True):
                await daemon.process.wait()
        elif daemon.process is not None and daemon.process.returncode and daemon.process.stdout is not None:
            said = b"".join([piece async for piece in daemon.process.stdout])
            print(f"the daemon ended by itself:\n{said.decode()}", file=sys.stderr)
