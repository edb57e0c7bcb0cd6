"""The daemon as a program: how soon it is there, how little it costs when nothing happens, and its processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
import trio

from bench.actors import Counter, at_a_time
from bench.bare import AT_ONCE
from bench.figures import Figure, Scale, at_most, figure
from bench.measure import Stopwatch, in_turn, percentile, rss_bytes, under_trio
from bench.servers import peer
from protocol.bodies import NewEngine, NewPool
from protocol.edge import dump
from protocol.events import Row
from protocol.states import State
from protocol.view import View
from protocol.writes import Snapshot, Write
from supervisor import SqliteStore, open_supervisor

__all__ = ["ROWS"]

ROWS = ("start_up", "killed", "idle", "history", "status", "processes")
PROGRAM: Final = Path(sys.executable).parent / "enginehouse"
KEY = "a-key-of-the-benches-that-is-long-enough"
POOL = "bench"


class Daemon:
    """`enginehouse serve` on a state folder, ready."""

    def __init__(self, state: Path) -> None:
        self.environ = {
            **os.environ, "ENGINEHOUSE_STATE_DIR": str(state), "ENGINEHOUSE_PORT": "0",
            "ENGINEHOUSE_SERVER__ADMIN_KEY": KEY, "ENGINEHOUSE_LOG_LEVEL": "error",
        }  # fmt: skip
        watch = Stopwatch()
        self.process = subprocess.Popen(
            [PROGRAM, "serve"], env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        self.ready_s = watch()
        if "http://" not in said:
            raise ChildProcessError("the daemon did not start")
        self.port = int(said.split("http://", 1)[1].split()[0].rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status >= 300:
            raise ConnectionError(f"{answer.status}: {said[:200]!r}")
        return json.loads(said)

    def fill(self, engines: int) -> None:
        """Idle probes, running."""
        self.ask("POST", "/pools", {"id": POOL, "max_engines": 10**5})
        for number in range(engines):
            self.ask("POST", "/engines", {"kind": "probe", "id": f"e{number}", "pool": POOL})

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def daemon(state: Path) -> Iterator[Daemon]:
    one = Daemon(state)
    try:
        yield one
    finally:
        one.end()


def _start_up() -> float:
    with tempfile.TemporaryDirectory() as directory, daemon(Path(directory)) as one:
        return one.ready_s


def _start_afternoon() -> float:
    watch = Stopwatch()
    with peer("fastapi+sqlite") as server:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            try:
                connection.request("GET", "/health")
                connection.getresponse().read()
                return watch()
            except ConnectionRefusedError:
                time.sleep(0.001)
            finally:
                connection.close()


def start_up(scale: Scale) -> list[Figure]:
    """From nothing to ready."""
    found = in_turn(scale.rounds, ours=_start_up, afternoon=_start_afternoon)
    return [figure("daemon, start-up", "s", found["ours"], "FastAPI + SQLite", found["afternoon"], at_most(1.5))]


def killed(scale: Scale) -> list[Figure]:
    """Killed with -9, and ready again with the same engines."""
    engines = scale.of(100, 5)

    def again() -> float:
        with tempfile.TemporaryDirectory() as directory:
            first = Daemon(Path(directory))
            try:
                first.fill(engines)
            finally:
                first.end(signal.SIGKILL)
            with daemon(Path(directory)) as second:
                assert second.ask("GET", "/engines/e0")["id"] == "e0"
                return second.ready_s

    found = in_turn(scale.rounds, ours=again, afternoon=_start_afternoon)
    what = f"ready after kill -9, {engines} engines"
    return [figure(what, "s", found["ours"], "FastAPI + SQLite, started", found["afternoon"], at_most(2))]


def idle(scale: Scale) -> list[Figure]:
    """What engines cost that do nothing."""
    engines, seconds = scale.of(100, 5), scale.of(50, 3) / 10
    cpu: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as directory, daemon(Path(directory)) as one:
        one.fill(engines)
        process = psutil.Process(one.process.pid)
        time.sleep(seconds / 5)
        for _ in range(scale.rounds):
            before = process.cpu_times()
            time.sleep(seconds)
            after = process.cpu_times()
            cpu.append((after.user + after.system - before.user - before.system) / seconds * 100)
            memory.append(rss_bytes(one.process.pid) / 1e6)
    return [
        figure(f"daemon, {engines} idle engines, CPU", "%", cpu, budget=at_most(1)),
        figure(f"daemon, {engines} idle engines, memory", "MB", memory, budget=at_most(120)),
    ]


# -- history -----------------------------------------------------------------------------------------------------------
async def _write_history(state: Path, engines: int, running: int, rows: int) -> None:
    """A journal of so many engines, all but a few of them stopped, and that many rows of work that is over."""
    async with open_supervisor(
        store=SqliteStore(state / "journal.db"), kinds=[Counter], directory=state, grace_s=5
    ) as house:
        await house.create_pool(NewPool(id=POOL, max_engines=10**6))

        async def one(number: int) -> None:
            await house.spawn(NewEngine(kind="probe", id=f"e{number}", pool=POOL, start=number < running))

        await at_a_time(100, engines, one)
        supervisor = house.supervisor
        stopped = [cell.spec for cell in supervisor.cells.values() if int(cell.spec.id[1:]) >= running]
        written = [supervisor.stamp()] * 100
        for number in range(rows // 100):
            spec = stopped[number % len(stopped)]
            some = tuple(
                Row(
                    type="log.line", time=time, data={"level": "info", "text": "work that is over"}, uid=spec.uid,
                    engine_id=spec.id, pool=spec.pool, incarnation=1,
                )
                for time in written
            )  # fmt: skip
            supervisor.store.submit(Write(some))
            while supervisor.store.statistics().queued_writes > 256:  # noqa: ASYNC110 - no event tells it
                await trio.sleep(0.01)
        for spec in stopped:  # what rests has a snapshot of all it did
            supervisor.store.submit(Write(snapshots=(_snapshot(supervisor.views[spec.uid]),)))


def _snapshot(view: View) -> Snapshot:
    return Snapshot(uid=view.spec.uid, seq=view.seq, engine_seq=view.engine_seq, body=dump(view))


def history(scale: Scale) -> list[Figure]:
    """Start-up over a long history; what counts is what lives."""
    engines, running, rows = scale.of(10_000, 100), scale.of(100, 3), scale.of(1_000_000, 2_000)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        trio.run(_write_history, state, engines, running, rows)

        def start() -> float:
            with daemon(state) as one:
                return one.ready_s

        found = in_turn(min(scale.rounds, 3), ours=start)
    what = f"start-up, {engines:,} engines ({running} up), {rows:,} rows"
    return [figure(what, "s", found["ours"], budget=at_most(3))]


# -- the command line --------------------------------------------------------------------------------------------------
def status(scale: Scale) -> list[Figure]:
    """`enginehouse status`, against the interpreter alone."""
    with tempfile.TemporaryDirectory() as directory, daemon(Path(directory)) as one:

        def timed(*command: str | Path) -> Callable[[], float]:
            def call() -> float:
                watch = Stopwatch()
                subprocess.run(command, env=one.environ, check=True, stdout=subprocess.DEVNULL)
                return watch()

            return call

        found = in_turn(scale.rounds, ours=timed(PROGRAM, "status"), python=timed(sys.executable, "-c", "pass"))
    return [
        figure("enginehouse status", "s", found["ours"], budget=at_most(0.35)),
        figure("enginehouse status", "s", found["ours"], "python -c pass", found["python"]),
    ]


# -- processes ---------------------------------------------------------------------------------------------------------
async def _processes(count: int, crashes: int) -> tuple[float, list[float]]:
    """Seconds until so many programs run; milliseconds from a program's death to the next one that runs."""
    took: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        async with open_supervisor(
            store=SqliteStore(Path(directory) / "journal.db"), directory=directory, grace_s=5
        ) as house:
            await house.create_pool(NewPool(id=POOL, max_engines=10**6))
            supervisor = house.supervisor
            config = {"argv": ["sleep", "600"], "protocol": "none", "ready": {"delay_s": 0.0}}

            async def one(number: int) -> None:
                await house.spawn(NewEngine(kind="process", id=f"p{number}", pool=POOL, config=config, restart=AT_ONCE))
                await supervisor.watch(supervisor.ids[f"p{number}"], lambda view: view.state is State.RUNNING)

            watch = Stopwatch()
            await at_a_time(100, count, one)
            spent = watch()
            uid = supervisor.ids["p0"]
            for incarnation in range(1, crashes + 1):
                (process, *_) = await house.processes("p0")
                watch = Stopwatch()
                os.kill(process.pid, signal.SIGKILL)
                await supervisor.watch(
                    uid,
                    lambda view: view.incarnation > incarnation and view.state is State.RUNNING,  # noqa: B023 - called within the loop's turn
                )
                took.append(watch() * 1000)
    return spent, took


def processes(scale: Scale) -> list[Figure]:
    """Programs as engines, in a whole house on SQLite."""
    count, crashes = scale.of(100, 5), scale.of(20, 2)

    def alone() -> tuple[float, list[float]]:
        watch = Stopwatch()
        started = [subprocess.Popen(["sleep", "600"]) for _ in range(count)]
        spent = watch()
        for process in started:
            process.kill()
            process.wait()
        return spent, [0.0]

    found = in_turn(scale.rounds, ours=under_trio(_processes, count, crashes), alone=alone)
    spent = {name: [one[0] for one in side] for name, side in found.items()}
    again = [[median(one[1]), percentile(one[1], 0.95)] for one in found["ours"]]
    return [
        figure(f"spawn {count} processes", "s", spent["ours"], "subprocess, unwatched", spent["alone"]),
        figure("a killed process running again, p50", "ms", [one[0] for one in again], budget=at_most(13)),
        figure("a killed process running again, p95", "ms", [one[1] for one in again]),
    ]
