"""Peers and clients as processes: started, asked, ended by their own pid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CONNECTIONS", "NODE", "PEERS", "Peer", "load", "peer", "peers", "read_events"]

CONNECTIONS = 32
NODE = shutil.which("node")
HERE = Path(__file__).parent

PEERS: Mapping[str, Callable[[float, str, float], list[str]]] = {
    "house": lambda rate, path, step_s: [sys.executable, "-m", "bench.peers.house", str(rate), path, str(step_s)],
    "quart": lambda rate, path, step_s: [sys.executable, "-m", "bench.peers.stock_quart", str(rate)],
    "fastapi": lambda rate, path, step_s: [sys.executable, "-m", "bench.peers.afternoon", str(rate), ""],
    "fastapi+sqlite": lambda rate, path, step_s: [sys.executable, "-m", "bench.peers.afternoon", str(rate), path],
    "node": lambda rate, path, step_s: [str(NODE), str(HERE / "peers" / "events.js"), str(rate)],
}
"""How each is started: events per second, a directory of its own, seconds between two steps of an engine."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that is ready."""

    name: str
    port: int
    pid: int


@contextmanager
def peers(*names: str, events_per_s: float = 0, step_s: float = 0) -> Iterator[dict[str, Peer]]:
    """Servers while the block lasts, started side by side; those that are not asked are idle."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(_process(name, events_per_s, step_s)) for name in names}
        yield {name: _ready(name, process) for name, process in started.items()}


@contextmanager
def peer(name: str, *, events_per_s: float = 0, step_s: float = 0) -> Iterator[Peer]:
    """One of them."""
    with peers(name, events_per_s=events_per_s, step_s=step_s) as served:
        yield served[name]


@contextmanager
def _process(name: str, events_per_s: float, step_s: float) -> Iterator[subprocess.Popen[bytes]]:
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(PEERS[name](events_per_s, directory, step_s), stdout=subprocess.PIPE) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(name: str, process: subprocess.Popen[bytes]) -> Peer:
    assert process.stdout is not None
    said = json.loads(process.stdout.readline() or "null")
    if said is None:
        raise ChildProcessError(f"{name} did not start")
    return Peer(name, said["port"], process.pid)


def _client(module: str, **options: Any) -> Any:
    command = [sys.executable, "-m", module, json.dumps(options)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def load(server: Peer, requests: list[str], *, seconds: float, connections: int = CONNECTIONS) -> dict[str, float]:
    """Whole HTTP requests, each connection's one after the other: `rate` per second, `p50_s`, `p95_s`, `p99_s`."""
    found: dict[str, float] = _client(
        "bench.load", port=server.port, requests=requests, seconds=seconds, connections=connections
    )
    return found


def read_events(server: Peer, request: str, *, readers: int, seconds: float, **more: Any) -> dict[str, float]:
    """Read a stream many times over: `rate` of deliveries per second, `p50_s`, `p99_s` of their age, `rss_bytes` of
    the server that each reader added.
    """
    found: dict[str, float] = _client(
        "bench.readers", port=server.port, pid=server.pid, request=request, readers=readers, seconds=seconds, **more
    )
    return found
