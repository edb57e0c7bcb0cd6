"""The shell kind on tmux: what it has beside a terminal of its own. What both do alike is in `test_shell.py`."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.children import ChildPolicy, ResourceLimits, Sandbox
from actors.context import Context
from actors.engines.tmux.server import outside
from actors.processes import linux
from actors.secrets import Sources
from protocol.bodies import NewEngine
from protocol.errors import ValidationFailed
from protocol.specs import OnInterrupt, Restart
from supervisor import EmbeddedHouse, open_supervisor
from tests.actors.engines.conftest import Driver
from tests.actors.engines.tmux_people import somebody, tmux

FLOOD_BYTES = 32 << 20


@pytest.fixture(autouse=True)
def _needs(program: Callable[[str], str]) -> None:
    program("tmux")


@pytest.fixture
async def shell(drive: Driver, tmp_path: Path) -> str:
    return await drive.spawn("shell", {"cwd": str(tmp_path), "backend": "tmux"})


async def said(drive: Driver, shell: str, command: Any) -> str:
    run = await drive.run(shell, command)
    assert run.status == "completed", run
    output: str = run.result["output"]
    return output


async def terminal(house: EmbeddedHouse, shell: str) -> dict[str, Any]:
    value: dict[str, Any] = (await house.slice(shell, "terminal")).value
    return value


async def server_pid(house: EmbeddedHouse, shell: str) -> int:
    return int(tmux((await terminal(house, shell))["socket"], "display-message", "-p", "#{pid}"))


async def test_the_socket_is_told_and_nobody_else_may_reach_it(drive: Driver, house: EmbeddedHouse, shell: str) -> None:
    told = await terminal(house, shell)
    socket = Path(told["socket"])
    assert told["attach"] == ["tmux", "-S", str(socket), "attach", "-t", "=main"]
    assert (told["rows"], told["cols"]) == (24, 80)
    assert socket.is_socket()  # noqa: ASYNC240 - a moment
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    async with drive.seen(shell, "engine.stopped"):
        await house.stop(shell)
    assert (await house.slice(shell, "terminal")).value is None
    assert not socket.parent.exists()


async def test_what_somebody_types_is_in_the_session_and_in_no_runs_output(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    with somebody(tmp_path / "desk", (await terminal(house, shell))["attach"]) as person:
        await person.sees("bash-")
        person.types("X=by-hand; echo typed $((6 * 7))")
        await person.sees("typed 42")
        person.types("half a li", enter=False)
        await person.sees("half a li")
        assert await said(drive, shell, "echo [$X]") == "[by-hand]\n"
        await person.sees("[by-hand]")
        assert await said(drive, shell, "stty size </dev/tty; tput cols") == "24 80\n80\n"  # whoever is attached


async def test_what_somebody_types_during_a_run_is_not_its_output(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    with somebody(tmp_path / "desk", (await terminal(house, shell))["attach"]) as person:
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "echo begun; while ! test -e go; do sleep 0.02; done; echo done")
        person.types("echo after $((1 + 1))")
        async with drive.seen(shell, "run.completed"):
            (tmp_path / "go").touch()
        await person.sees("after 2")
        assert await drive.house.output(run) == (b"begun\ndone\n", 11)


async def test_a_run_waits_for_what_somebody_has_in_the_foreground(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    with somebody(tmp_path / "desk", (await terminal(house, shell))["attach"]) as person:
        await person.sees("bash-")
        person.types("cat")
        person.types("in cat")
        await person.sees("in cat\nin cat")
        async with drive.seen(shell, "log.line", holding="in the foreground"):
            run = await drive.submit(shell, {"command": "echo now", "timeout_s": 5})
        async with drive.seen(shell, "run.completed"):
            person.presses("C-d")
        assert (await house.run(run)).result["output"] == "now\n"
        person.types("cat")
        person.types("again")
        await person.sees("again\nagain")
        async with drive.seen(shell, "log.line", holding="in the foreground"):
            run = await drive.submit(shell, "echo never")
        async with drive.seen(shell, "run.cancelled", within_s=2):
            await house.cancel(run)
        person.presses("C-d")
        assert await said(drive, shell, "echo on") == "on\n"


async def test_somebody_may_interrupt_a_command_and_scroll_back(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    with somebody(tmp_path / "desk", (await terminal(house, shell))["attach"]) as person:
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "echo begun; sleep 1000; echo after")
        async with drive.seen(shell, "run.failed"):
            person.presses("C-c")
        assert (await house.run(run)).result["exit_code"] == 130
        person.presses("C-b", "[")
        await person.sees("[0/")
        assert await said(drive, shell, "echo on") == "on\n"


async def test_a_cancelled_command_leaves_no_process_and_takes_nothing_of_anybody_else(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    told = await terminal(house, shell)
    await said(drive, shell, "sleep 1001 & true")
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(
            shell, "(setsid sleep 1002 &); (trap '' TERM; exec env -i sleep 1003) & echo begun; sleep 1004"
        )
    tmux(told["socket"], "new-window", "-d", "sleep 1005 & (setsid sleep 1006 &); exec sleep 1007")
    everybody = {f"sleep 100{n}" for n in range(1, 8)}
    await sleepers(house, shell, everybody)
    async with drive.seen(shell, "run.cancelled"):
        await house.cancel(run)
    await sleepers(house, shell, {f"sleep 100{n}" for n in (1, 5, 6, 7)})
    assert await said(drive, shell, "echo on") == "on\n"


async def test_what_is_typed_after_the_end_of_a_cancelled_command_is_no_part_of_it(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept, go_on = trio.Event(), trio.Event()
    end_newer = Context.end_newer

    async def later(self: Context, *told: Any, **more: Any) -> None:
        swept.set()
        await go_on.wait()
        await end_newer(self, *told, **more)

    monkeypatch.setattr(Context, "end_newer", later)
    with somebody(tmp_path / "desk", (await terminal(house, shell))["attach"]) as person:
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "sleep 1001 & echo begun; sleep 1002")
        async with drive.seen(shell, "run.cancelled"):
            await house.cancel(run)
            await swept.wait()
            ended = linux.now_ticks()
            while linux.now_ticks() == ended:  # noqa: ASYNC110 - the kernel tells starts to a hundredth of a second
                await trio.sleep(0.002)
            person.types("sleep 1003 &")
            await sleepers(house, shell, {"sleep 1001", "sleep 1003"})
            go_on.set()
        await sleepers(house, shell, {"sleep 1003"})


async def test_the_processes_answer_tells_the_limits_of_the_shell(drive: Driver, house: EmbeddedHouse) -> None:
    shell = await drive.spawn("shell", {"backend": "tmux", "limits": {"cpu_s": 77}})
    confinement = (await house.processes(shell)).confinement
    assert confinement is not None
    assert confinement.limits == {"cpu_s": 77, "core_bytes": 0}


def test_what_bounds_the_whole_tree_is_said_with_every_program_of_it() -> None:
    limits = ResourceLimits(cpu_s=7, tree_memory_bytes=1 << 30, tree_cpus=1.5)
    of_clients = outside({"cwd": ".", "workspace": None, "limits": limits, "sandbox": None}, Path("/home"))["limits"]
    assert (of_clients.tree_memory_bytes, of_clients.tree_cpus, of_clients.tree_processes) == (1 << 30, 1.5, None)
    assert of_clients.cpu_s != 7


async def sleepers(house: EmbeddedHouse, shell: str, wanted: set[str]) -> None:
    """Wait until these sleep in the engine's tree, and no other."""
    with trio.fail_after(10):
        seen: set[str] = set()
        while seen != wanted:
            await trio.sleep(0.02)
            seen = {" ".join(row.command) for row in await house.processes(shell) if row.name == "sleep"}


async def test_whoever_detaches_our_client_loses_nothing_that_comes(
    drive: Driver, house: EmbeddedHouse, shell: str, tmp_path: Path
) -> None:
    socket = (await terminal(house, shell))["socket"]
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; while ! test -e go; do sleep 0.02; done; echo done")
    tmux(socket, "detach-client", "-a")
    tmux(socket, "detach-client", "-s", "=main")
    with trio.fail_after(10):
        while not tmux(socket, "list-clients"):  # noqa: ASYNC110 - nobody tells that it is back
            await trio.sleep(0.02)
    async with drive.seen(shell, "run.completed"):
        (tmp_path / "go").touch()
    info = await house.run(run)
    assert info.result["output"].endswith("done\n")
    assert info.result["gap"] is True
    assert "gap" not in (await drive.run(shell, "true")).result


@pytest.mark.parametrize("how", ["kill-session", "kill-pane", "respawn-pane -k"])
async def test_a_session_that_somebody_ends_ends_the_run_and_the_next_has_another(
    drive: Driver, house: EmbeddedHouse, shell: str, how: str
) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; sleep 1000")
    async with drive.seen(shell, "run.failed"):
        tmux((await terminal(house, shell))["socket"], *how.split())
    assert (await house.run(run)).result["exit_code"] == 129
    assert await said(drive, shell, "echo on") == "on\n"
    assert (await house.get(shell)).incarnation == 1


async def test_the_end_of_the_server_is_not_blamed_on_the_command(
    drive: Driver, house: EmbeddedHouse, shell: str
) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; sleep 1000")
    async with drive.seen(shell, "run.failed"):
        tmux((await terminal(house, shell))["socket"], "kill-server")
    info = await house.run(run)
    assert info.error is not None
    assert info.error["slug"] == "interrupted"
    assert "the tmux server, pid " in info.error["detail"]
    assert "has ended" in info.error["detail"]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_server_that_ends_or_hangs_is_a_crash_that_is_told_and_restarted(
    drive: Driver, house: EmbeddedHouse, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    monkeypatch.setattr("actors.engines.tmux.session.HEALTH_S", 0.1)
    monkeypatch.setattr("actors.engines.tmux.session.ANSWER_S", 0.5)
    shell = await drive.spawn("shell", {"backend": "tmux"}, restart=Restart())
    before = [row.pid for row in await house.processes(shell)]
    pid = await server_pid(house, shell)
    says = "has ended" if signum == signal.SIGKILL else "has not answered within 0.5 s"
    async with drive.seen(shell, "engine.started"):
        async with drive.seen(shell, "engine.crashed", holding=f"the tmux server, pid {pid}, {says}"):
            os.kill(pid, signum)
        assert not any(Path(f"/proc/{one}").exists() for one in before)  # noqa: ASYNC240 - /proc does not block
    assert await said(drive, shell, "echo on") == "on\n"


async def test_a_frozen_session_is_not_taken_for_one_that_hangs(
    drive: Driver, house: EmbeddedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.engines.tmux.session.HEALTH_S", 0.02)
    monkeypatch.setattr("actors.engines.tmux.session.ANSWER_S", 0.1)
    shell = await drive.spawn("shell", {"backend": "tmux"})
    await house.pause(shell, wait_s=5)
    await trio.sleep(0.4)
    await house.resume(shell, wait_s=5)
    assert await said(drive, shell, "echo on") == "on\n"
    assert (await house.get(shell)).incarnation == 1


async def test_restart_is_a_new_session(drive: Driver, house: EmbeddedHouse, shell: str) -> None:
    await said(drive, shell, "X=5")
    async with drive.seen(shell, "engine.started"):
        await house.restart(shell)
    assert await said(drive, shell, "echo [$X]") == "[]\n"


HOSTILE = r"""
%output %0 forged
%end 1 2 1
%exit
\033[?1049h\033[2J\033]0;title\007\033Pqdcs\033\\\033_apc\033\\\033kname\033\\
\033]7837;0123456789abcdef0123456789abcdef e1x0\007\036 \\ \\015 \377\376 \000\r\r\n\016
"""


async def test_output_that_looks_like_tmux_or_drives_the_terminal_is_output(drive: Driver, shell: str) -> None:
    text = HOSTILE.encode().decode("unicode_escape").encode("latin-1")
    run = await drive.run(shell, "printf '" + HOSTILE.replace("%", "%%") + "'")
    assert await drive.house.output(run.id) == (text, len(text))
    assert await said(drive, shell, "echo on") == "on\n"


async def test_a_line_without_end_comes_whole(drive: Driver, shell: str, tmp_path: Path) -> None:
    async with drive.seen(shell, "run.completed", within_s=120):
        run = await drive.submit(shell, f"head -c {FLOOD_BYTES} /dev/zero | tr '\\0' x; echo end")
    info = await drive.house.run(run)
    assert info.result["output_bytes"] == FLOOD_BYTES + 4
    kept, _ = await drive.house.output(run, after=FLOOD_BYTES - 2)
    assert kept == b"xxend\n"


async def test_a_prompt_that_somebody_has_changed_is_no_matter(drive: Driver, shell: str) -> None:
    await said(drive, shell, "PROMPT_COMMAND='echo noise'; PS1='$(echo x)> '; set -o vi; set -u; set -C")
    assert await said(drive, shell, "echo on") == "on\n"
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; sleep 1000")
    async with drive.seen(shell, "run.cancelled"):
        await drive.house.cancel(run)
    assert await said(drive, shell, "echo on") == "on\n"


async def test_secrets_are_masked_and_a_new_shell_has_the_new_ones(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("correct horse battery\n")
    policy = ChildPolicy(secrets=Sources(directories=(str(tmp_path),)))
    async with open_supervisor(grace_s=1, children=policy) as house:
        drive = Driver(house)
        shell = await drive.spawn("shell", {"backend": "tmux", "env": {"KEY": {"file": str(key)}}})
        assert await said(drive, shell, 'echo "$KEY" ${#KEY}') == "*** 21\n"
        key.write_text("another one, longer than that\n")
        await drive.run(shell, "exit 1")
        assert await said(drive, shell, 'echo "$KEY" ${#KEY}') == "*** 29\n"


async def test_limits_hold_for_the_shell_and_not_for_the_server(drive: Driver, house: EmbeddedHouse) -> None:
    limits = {"cpu_s": 77, "files": 64, "file_bytes": 4096}
    shell = await drive.spawn("shell", {"backend": "tmux", "limits": limits})
    assert await said(drive, shell, "ulimit -t; ulimit -n; ulimit -f; ulimit -c") == "77\n64\n4\n0\n"
    assert " 77 " not in Path(f"/proc/{await server_pid(house, shell)}/limits").read_text()  # noqa: ASYNC240 - as above


async def test_a_sandbox_is_around_all_that_is_in_there(
    drive: Driver, house: EmbeddedHouse, tmp_path: Path, landlock: Sandbox
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text("secret")
    sandbox = {"by": landlock.by, "network": landlock.network}
    shell = await drive.spawn("shell", {"cwd": str(inside), "backend": "tmux", "sandbox": sandbox})
    assert (await drive.run(shell, "cat ../outside")).status == "failed"
    assert await said(drive, shell, "echo x >file; cat file") == "x\n"
    socket = (await terminal(house, shell))["socket"]
    assert tmux(socket, "run-shell", f"cat {tmp_path}/outside; echo tried").strip() != "secrettried"


@pytest.mark.parametrize(
    "config, where",
    [({"sandbox": {"by": "bubblewrap"}}, "config.sandbox"), ({"backend": "screen"}, "backend")],
)
async def test_what_cannot_be_combined_is_refused(house: EmbeddedHouse, config: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationFailed, match=where):
        await house.spawn(NewEngine(kind="shell", config={"backend": "tmux", **config}))


@pytest.mark.parametrize(
    "says, problem",
    [(None, "no program tmux"), ("tmux 3.1c", "3.2 or newer"), ("tmux 2.9", "3.2 or newer")],
)
async def test_without_a_tmux_that_will_do_it_is_refused(
    house: EmbeddedHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, problem: str
) -> None:
    if says is not None:
        (tmp_path / "tmux").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "tmux").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValidationFailed, match=problem):
        await house.spawn(NewEngine(kind="shell", config={"backend": "tmux"}))


async def test_a_house_whose_path_can_hold_no_sockets_refuses(tmp_path: Path) -> None:
    policy = ChildPolicy(lasting=str(tmp_path / ("x" * 120)))
    async with open_supervisor(children=policy) as house:
        with pytest.raises(ValidationFailed, match="cannot hold sockets"):
            await house.spawn(NewEngine(kind="shell", config={"backend": "tmux"}))


async def test_resume_is_for_sessions_that_can_be_taken_over(house: EmbeddedHouse) -> None:
    await house.spawn(NewEngine(kind="shell", config={"backend": "tmux"}, start=False, on_interrupt=OnInterrupt.RESUME))
    with pytest.raises(ValidationFailed, match="no checkpoints"):
        await house.spawn(NewEngine(kind="shell", config={"backend": "pty"}, on_interrupt=OnInterrupt.RESUME))
