"""Sessions on tmux outlive the daemon, and nothing else: real daemons, a real tmux, real kills."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.children import Sandbox
from protocol.commands import Dispose, Pause, Resume, Start, Stop
from protocol.errors import EngineDisposed, ValidationFailed
from protocol.specs import OnInterrupt
from supervisor import NewEngine, NewRun
from tests.actors.engines.tmux_people import somebody
from tests.e2e.daemons import Daemon, processes_with, running
from web.client import RemoteHouse

GONE_S = 10.0


@pytest.fixture(autouse=True)
def _needs(program: Callable[[str], str]) -> None:
    program("tmux")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Short, for sockets; whatever is left of its sessions afterwards ends by itself, its folder being gone."""
    return tmp_path / "s"


async def spawn(house: RemoteHouse, cwd: Path, id: str = "sh", **spec: Any) -> None:
    await house.spawn(NewEngine(kind="shell", id=id, config={"backend": "tmux", "cwd": str(cwd)}, **spec))
    await house.command(id, Start(), wait_s=30)


async def until(house: RemoteHouse, state: str, id: str = "sh") -> None:
    with trio.fail_after(30):
        try:
            while (await house.get(id)).state != state:
                await house.event_page(wait_s=0.2)
        except EngineDisposed:
            assert state == "disposed"


async def said(house: RemoteHouse, command: str, id: str = "sh") -> str:
    run, _ = await house.submit(id, NewRun(input=command), wait_s=30)
    assert run.status == "completed", run
    output: str = run.result["output"]
    return output


async def begun(house: RemoteHouse, command: str) -> str:
    """A run that has said so."""
    run, _ = await house.submit("sh", NewRun(input=f"echo begun; {command}"))
    with trio.fail_after(30):
        while b"begun" not in (await house.output(run.id))[0]:
            await house.event_page(wait_s=0.1)
    return run.id


async def over(house: RemoteHouse, run: str) -> Any:
    with trio.fail_after(30):
        while not (info := await house.run(run)).finished_at:
            await house.event_page(wait_s=0.1)
    return info


async def gone(state: Path) -> None:
    """Nothing of the house's sessions is left, no process and no file."""
    with trio.fail_after(GONE_S):
        while processes_with(f"{state}/lasting"):  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(0.05)
    assert list((state / "lasting").glob("*")) == []


async def pids(house: RemoteHouse) -> set[int]:
    return {row.pid for row in await house.processes("sh") if "client" not in row.name}


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_session_goes_on_with_the_next_daemon(tmp_path: Path, state: Path, how: str) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "X=kept; cd /; f() { echo f $1; }; sleep 1000 & true")
            before = await pids(house)
            attach = (await house.slice("sh", "terminal")).value["attach"]
        with somebody(tmp_path / "desk", attach) as person:
            await (daemon.kill() if how == "kill" else daemon.stop())
            person.types("Y=meanwhile")
            await person.sees("Y=meanwhile")
            await daemon.start()
            async with daemon.client() as house:
                await until(house, "running")
                assert await said(house, "echo $X $Y; f 3; pwd; jobs") == (
                    "kept meanwhile\nf 3\n/\n[1]+  Running                 sleep 1000 &\n"
                )
                assert await pids(house) == before
                assert (await house.get("sh")).incarnation == 2
                await person.sees("kept meanwhile")
                person.types("echo still $((40 + 2))")
                await person.sees("still 42")
                assert (await house.dispose("sh", force=True)).leaks == []
        await gone(state)


async def test_a_session_that_goes_on_has_the_access_of_its_new_incarnation(tmp_path: Path, state: Path) -> None:
    header = '-H "Authorization: Bearer $ENGINEHOUSE_API_KEY"'
    ask = f'curl -s -o /dev/null -w "%{{http_code}}" {header} "$ENGINEHOUSE_URL/api/v1/engines/sh"'
    async with running(state) as daemon:
        async with daemon.client() as house:
            config = {"backend": "tmux", "cwd": str(tmp_path), "api": True}
            await house.spawn(NewEngine(kind="shell", id="sh", config=config))
            await house.command("sh", Start(), wait_s=30)
            assert await said(house, ask) == "200"
            assert await said(house, "echo $ENGINEHOUSE_API_KEY") == "***\n"
        await daemon.kill()
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "running")
            assert await said(house, ask) == "200"
            assert await said(house, "echo $ENGINEHOUSE_API_KEY") == "***\n"
            await house.dispose("sh", force=True)
        await gone(state)


CALL = """
import socket, sys, time
told, end = b"", time.monotonic() + 5
while not told and time.monotonic() < end:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as keeper:
        keeper.settimeout(1)
        try:
            keeper.connect(sys.argv[1])
            keeper.send(b"")
            told = keeper.recv(4096)
        except OSError:
            time.sleep(0.05)
with open("called", "w") as file:
    file.write("obeyed" if told else "refused")
"""


async def test_a_program_of_the_session_gets_no_hold_of_its_keeper(tmp_path: Path, state: Path) -> None:
    """While no daemon has: the keeper starts what it is told to, and in no sandbox unless that is said."""
    (tmp_path / "call.py").write_text(CALL)
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            keeper = Path((await house.slice("sh", "terminal")).value["socket"]).parent.parent / "keeper"
            assert keeper.is_socket()
            await said(house, f"{sys.executable} call.py {keeper} </dev/null >/dev/null 2>&1 & X=kept")
        await daemon.kill()
        with trio.fail_after(20):
            while not (called := tmp_path / "called").exists() or not called.read_text():  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)
        assert called.read_text() == "refused"
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "running")
            assert await said(house, "echo $X") == "kept\n"
            await house.dispose("sh", force=True)
        await gone(state)


async def test_what_a_sandboxed_session_leaves_for_the_next_daemon_stays_in_its_sandbox(
    tmp_path: Path, state: Path, landlock: Sandbox
) -> None:
    """Its folder is its own to write: what is remembered of it, and the socket, are its words."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text("secret")
    evil = f"cat {tmp_path}/outside >{inside}/stolen; echo >{inside}/tried"
    async with running(state) as daemon:
        async with daemon.client() as house:
            sandbox = {"by": landlock.by, "network": landlock.network}
            config = {"backend": "tmux", "cwd": str(inside), "sandbox": sandbox}
            await house.spawn(NewEngine(kind="shell", id="sh", config=config))
            await house.command("sh", Start(), wait_s=30)
            folder = Path((await house.slice("sh", "terminal")).value["socket"]).parent
            assert await said(house, f"cat {folder.parent}/key 2>&1 | grep -c 'Permission denied'") == "1\n"
            await said(house, f"cd {folder} && printf '#!/bin/sh\n{evil}\n' >tmux.new && chmod +x tmux.new")
        await daemon.kill()
        kept = json.loads((folder / "session.json").read_bytes())
        (folder / "session.json").write_text(json.dumps(kept | {"program": str(folder / "tmux.new")}))
        await daemon.start()
        with trio.fail_after(20):
            while not (inside / "tried").exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.05)
        assert (inside / "stolen").read_text() == ""
        async with daemon.client() as house:
            await house.dispose("sh", force=True)
        await gone(state)


async def test_a_session_cannot_name_a_process_of_somebody_else_as_its_own(tmp_path: Path, state: Path) -> None:
    """What it says of itself is its own to write, and whom it names is limited, signalled and killed."""
    with subprocess.Popen(["sleep", "1000"]) as stranger:  # noqa: ASYNC220 - it is only started
        try:
            async with running(state) as daemon:
                async with daemon.client() as house:
                    config = {"backend": "tmux", "cwd": str(tmp_path), "limits": {"files": 77}}
                    await house.spawn(NewEngine(kind="shell", id="sh", config=config))
                    await house.command("sh", Start(), wait_s=30)
                    folder = Path((await house.slice("sh", "terminal")).value["socket"]).parent
                await daemon.kill()
                kept = json.loads((folder / "session.json").read_bytes()) | {"holder": stranger.pid}
                answer = f"{kept['server']} {kept['pane']} {kept['holder']} 0"
                program = tmp_path / "tmux"
                program.write_text(f'#!/bin/sh\ncase "$*" in *pane_dead*) echo "{answer}";; *) exec tmux "$@";; esac\n')
                program.chmod(0o755)
                (folder / "session.json").write_text(json.dumps(kept | {"program": str(program)}))
                await daemon.start()
                async with daemon.client() as house:
                    await until(house, "running")
                    assert resource.prlimit(stranger.pid, resource.RLIMIT_NOFILE)[0] != 77
                    assert await said(house, "ulimit -n") == "77\n"
                    await house.dispose("sh", force=True)
                await gone(state)
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_a_command_of_a_failed_run_does_not_go_on(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            run = await begun(house, "X=kept; while :; do date >>beat; sleep 0.02; done")
        await daemon.kill()
        await daemon.start()
        async with daemon.client() as house:
            error = (await over(house, run)).error
            assert error["slug"] == "interrupted"
            assert error["detail"] == (
                "It was interrupted: the house died. Its command was ended, or is before anything else runs in its "
                "session. A retry gives the same input anew, and may repeat what was done."
            )
            await until(house, "running")
            assert await said(house, "echo $X; rm beat; sleep 0.3; ls beat 2>/dev/null; true") == "kept\n"
            await house.dispose("sh", force=True)
        await gone(state)


async def test_what_the_command_of_a_failed_run_started_does_not_go_on(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "sleep 1001 & true")
            stays = await pids(house)
            run = await begun(house, "(setsid sleep 1002 &) ; sleep 1003")
            with trio.fail_after(30):
                while len(await pids(house)) < len(stays) + 2:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.05)
        await daemon.kill()
        await daemon.start()
        async with daemon.client() as house:
            assert (await over(house, run)).error["slug"] == "interrupted"
            await until(house, "running")
            assert await said(house, "true") == ""
            assert await pids(house) == stays
            await house.dispose("sh", force=True)
        await gone(state)


async def test_a_retry_does_not_run_on_top_of_what_still_goes_on(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path, on_interrupt=OnInterrupt.RETRY)
            run = await begun(house, "mkdir only || exit 9; until test -e go; do sleep 0.02; done; rmdir only")
        await daemon.kill()
        (tmp_path / "only").rmdir()
        await daemon.start()
        async with daemon.client() as house:
            with trio.fail_after(30):
                while not (tmp_path / "only").is_dir():
                    await house.event_page(wait_s=0.1)
            (tmp_path / "go").touch()
            info = await over(house, run)
            assert (info.status, info.attempts) == ("completed", 2)
            await house.dispose("sh", force=True)
        await gone(state)


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("ends", ["meanwhile", "afterwards"])
async def test_a_run_that_is_to_resume_takes_what_its_command_comes_to(
    tmp_path: Path, state: Path, how: str, ends: str
) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path, on_interrupt=OnInterrupt.RESUME)
            run = await begun(house, "date +%N >>times; until test -e go; do sleep 0.02; done; echo done; (exit 7)")
        await (daemon.kill() if how == "kill" else daemon.stop())
        if ends == "meanwhile":
            (tmp_path / "go").touch()
            await trio.sleep(0.5)
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "running")
            (tmp_path / "go").touch()
            info = await over(house, run)
            assert (info.status, info.error["slug"], info.attempts) == ("failed", "exit-status", 2)
            assert (info.result["exit_code"], info.result["gap"]) == (7, True)
            if ends == "afterwards":
                assert (await house.output(run))[0] == b"begun\ndone\n"
            assert len((tmp_path / "times").read_text().split()) == 1, "it ran once"
            assert await said(house, "echo on") == "on\n"
            await house.dispose("sh", force=True)
        await gone(state)


async def test_a_frozen_session_stays_frozen_and_goes_on_at_the_resume(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path, on_interrupt=OnInterrupt.RESUME)
            run = await begun(house, "for i in 1 2 3; do echo $i >>beat; until test -e go; do sleep 0.02; done; done")
            await house.command("sh", Pause(holder="me"), wait_s=30)
            before = await pids(house)
        await daemon.kill()
        await daemon.start()
        (tmp_path / "go").touch()
        async with daemon.client() as house:
            await until(house, "paused")
            for _ in range(2):  # a look wakes nobody
                assert {row.state for row in await house.processes("sh")} == {"stopped"}
                assert await pids(house) == before
            await house.command("sh", Resume(holder="me"), wait_s=30)
            assert (await over(house, run)).status == "completed"
            assert (tmp_path / "beat").read_text() == "1\n2\n3\n"
            await house.dispose("sh", force=True)
        await gone(state)


@pytest.mark.parametrize("command, ended", [(Stop(grace_s=1), "stopped"), (Dispose(force=True, grace_s=1), "disposed")])
async def test_what_was_left_of_an_engine_that_does_not_boot_ends_with_it(
    tmp_path: Path, state: Path, command: Any, ended: str
) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await begun(house, "trap '' TERM HUP; sleep 1000")
            await house.command("sh", Pause(holder="me"), wait_s=30)
        await daemon.stop()
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "paused")
            assert processes_with(f"{state}/lasting")
            await house.command("sh", command, wait_s=30)
            await until(house, ended)
        await gone(state)


async def test_what_no_engine_claims_is_ended_at_the_start(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
        await daemon.kill()
        assert processes_with(f"{state}/lasting")
        for file in state.glob("journal.db*"):  # noqa: ASYNC240 - as above
            file.unlink()
        shutil.rmtree(state / "seals", ignore_errors=True)
        await daemon.start()
        await gone(state)


async def test_what_nobody_can_ever_claim_ends_by_itself(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
        await daemon.kill()
        shutil.rmtree(state / "lasting")
        with trio.fail_after(GONE_S):
            while processes_with(f"{state}/lasting"):  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)


async def test_a_session_whose_keeper_was_killed_too_is_ended_at_the_start(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "X=5; env -i setsid sleep 1000 & true")
        await daemon.kill()
        (keeper,) = [pid for pid in processes_with(f"{state}/lasting") if name(pid) == "house-lasting"]
        os.kill(keeper, signal.SIGKILL)
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "running")
            assert await said(house, "echo [$X]") == "[]\n"
            await house.dispose("sh", force=True)
        await gone(state)


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it was the control client, which goes with its daemon
        return ""


async def test_50_sessions_are_disposed_of_without_a_survivor(tmp_path: Path, state: Path) -> None:
    names = [f"sh{number}" for number in range(50)]
    async with running(state) as daemon, daemon.client() as house:

        async def one(name: str) -> None:
            await spawn(house, tmp_path, name)

        for begin in range(0, len(names), 10):
            async with trio.open_nursery() as nursery:
                for name in names[begin : begin + 10]:
                    nursery.start_soon(one, name)
        assert len(list((state / "lasting").iterdir())) == len(names)
        outcomes = await house.dispose_many(names, force=True, grace_s=1)
        assert [outcome.state for outcome in outcomes] == ["disposed"] * len(names)
        for name in names:
            assert (await house.dispose(name)).leaks == []
        await gone(state)


async def test_without_tmux_it_is_422(tmp_path: Path, state: Path) -> None:
    async with running(state, env={"PATH": str(tmp_path)}) as daemon, daemon.client() as house:
        with pytest.raises(ValidationFailed, match="no program tmux"):
            await spawn(house, tmp_path)


async def test_an_engine_that_finds_no_tmux_any_more_says_so(tmp_path: Path, state: Path) -> None:
    daemon = Daemon(state)
    try:
        await daemon.start()
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await house.command("sh", Stop(), wait_s=30)
        await daemon.stop()
        daemon._env["PATH"] = str(tmp_path)  # noqa: SLF001 - of this test's own daemon
        await daemon.start()
        async with daemon.client() as house:
            await house.start("sh")
            await until(house, "failed")
            assert "no program tmux" in ((await house.get("sh")).last_exit or {})["error"]
    finally:
        with trio.CancelScope(shield=True):
            await daemon.end()


async def test_a_session_is_taken_over_by_a_daemon_that_has_no_tmux_in_path(tmp_path: Path, state: Path) -> None:
    daemon = Daemon(state)
    try:
        await daemon.start()
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "export KEEP=precious")
        await daemon.stop()
        daemon._env["PATH"] = str(tmp_path)  # noqa: SLF001 - of this test's own daemon
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "running")
            assert await said(house, "echo $KEEP") == "precious\n"
            await house.dispose("sh", force=True)
        await gone(state)
    finally:
        with trio.CancelScope(shield=True):
            await daemon.end()


@pytest.mark.parametrize("then", ["start", "stop", "dispose"])
async def test_a_session_that_cannot_be_taken_over_lives_on(tmp_path: Path, state: Path, then: str) -> None:
    tmux = tmp_path / "bin" / "tmux"
    tmux.parent.mkdir()
    tmux.symlink_to(shutil.which("tmux") or "")
    empty = tmp_path / "empty"
    empty.mkdir()
    daemon = Daemon(state)
    path = daemon._env.get("PATH", os.environ["PATH"])  # noqa: SLF001 - of this test's own daemon
    try:
        daemon._env["PATH"] = f"{tmux.parent}:{path}"  # noqa: SLF001 - as above
        await daemon.start()
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "export KEEP=precious")
        await daemon.kill()
        gone_tmux = tmux.rename(tmux.with_name("elsewhere"))
        daemon._env["PATH"] = str(empty)  # noqa: SLF001 - as above
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "failed")
            error = ((await house.get("sh")).last_exit or {})["error"]
            assert error == "There is no program tmux in PATH; its session lives on: mend PATH and start it."
            assert processes_with(f"{state}/lasting")
        await daemon.kill()
        gone_tmux.rename(tmux)
        daemon._env["PATH"] = f"{tmux.parent}:{path}"  # noqa: SLF001 - as above
        await daemon.start()
        async with daemon.client() as house:
            assert (await house.get("sh")).state == "failed"
            if then == "start":
                await house.start("sh")
                await until(house, "running")
                assert await said(house, "echo $KEEP") == "precious\n"
                await house.dispose("sh", force=True)
            elif then == "stop":
                await house.command("sh", Stop(grace_s=1), wait_s=30)
                await until(house, "stopped")
            else:
                await house.dispose("sh", force=True)
        await gone(state)
    finally:
        with trio.CancelScope(shield=True):
            await daemon.end()


NO_PROCESS = """
from actors.engines.tmux import session
from actors.processes import SpawnFailed

async def full(*_):
    raise SpawnFailed("cannot start 'tmux' (no more processes)", reason="failed", errno=11, argv0="tmux")

session.is_well = full
"""
NO_DESCRIPTOR = """
from actors.processes import Tree

async def full(*_):
    raise OSError(24, "Too many open files")

Tree.adopt = full
"""


@pytest.mark.parametrize(
    "full, why",
    [(NO_PROCESS, "(no more processes)"), (NO_DESCRIPTOR, "Too many open files")],
    ids=["processes", "descriptors"],
)
async def test_a_session_lives_on_when_the_machine_is_full(tmp_path: Path, state: Path, full: str, why: str) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "export KEEP=precious")
        await daemon.kill()
        as_usual, daemon.program = daemon.program, full + daemon.program
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "failed")
            error = ((await house.get("sh")).last_exit or {})["error"]
            assert error.endswith(f"{why}; its session lives on: mend that and start it.")
        await daemon.kill()
        daemon.program = as_usual
        await daemon.start()
        async with daemon.client() as house:
            await house.start("sh")
            await until(house, "running")
            assert await said(house, "echo $KEEP") == "precious\n"
            await house.dispose("sh", force=True)
        await gone(state)


ANSWER_S = 0.1


async def test_a_session_whose_server_is_slow_at_the_take_over_lives_on(tmp_path: Path, state: Path) -> None:
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, tmp_path)
            await said(house, "export KEEP=precious")
            (server,) = {row.pid for row in await house.processes("sh") if row.name == "tmux: server"}
        await daemon.kill()
        os.kill(server, signal.SIGSTOP)
        daemon.program = f"from actors.engines.tmux import server; server.ANSWER_S = {ANSWER_S}\n" + daemon.program
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.start)
            with trio.fail_after(30):
                while not processes_with("display-message"):  # noqa: ASYNC110 - the kernel tells nobody
                    await trio.sleep(0.05)
            await trio.sleep(5 * ANSWER_S)
            os.kill(server, signal.SIGCONT)
        async with daemon.client() as house:
            await until(house, "running")
            assert await said(house, "echo $KEEP") == "precious\n"
            await house.dispose("sh", force=True)
        await gone(state)


async def test_a_session_whose_directory_is_away_lives_on(tmp_path: Path, state: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    async with running(state) as daemon:
        async with daemon.client() as house:
            await spawn(house, place)
            await said(house, "export KEEP=precious")
        await daemon.kill()
        away = place.rename(tmp_path / "away")
        await daemon.start()
        async with daemon.client() as house:
            await until(house, "failed")
            error = ((await house.get("sh")).last_exit or {})["error"]
            assert error.endswith("; its session lives on: mend that and start it.")
            away.rename(place)
            await house.start("sh")
            await until(house, "running")
            assert await said(house, "echo $KEEP") == "precious\n"
            await house.dispose("sh", force=True)
        await gone(state)
