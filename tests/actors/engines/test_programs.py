"""What `shell` and `process` share: where programs start, what they may use, which secrets they get and cannot say."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import Engine
from actors.children import ChildPolicy, ControlGroups, ResourceLimits, Sandbox
from actors.processes import Tree, linux
from actors.processes.sandbox import lacking
from actors.secrets import Sources
from protocol.bodies import NewEngine, NewPool
from protocol.errors import ValidationFailed
from protocol.specs import Policy, Restart, Spec, Template
from protocol.wire import ProcessTotal
from supervisor import EmbeddedHouse, MemoryStore, open_supervisor
from supervisor.store.memory import Journal
from tests.actors.engines.conftest import Driver

CANARY = "canary-5f0a2b91"
HERE = [by for by in ("bubblewrap", "landlock") if lacking(Sandbox(by=by)) is None]
Opened = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def opened(tmp_path: Path, journal: Journal) -> Opened:
    """A house in `state`, which is private, with workspaces in it, and secrets beside it."""

    @asynccontextmanager
    async def opened(**policy: Any) -> AsyncIterator[Driver]:
        engine_env = policy.pop("engine_env", None)
        state = tmp_path / "state"
        policy.setdefault("private", (str(state),))
        policy.setdefault("workspaces", str(state / "workspaces"))
        policy.setdefault("secrets", Sources(env=frozenset({"CANARY"}), directories=(str(tmp_path / "secrets"),)))
        async with open_supervisor(
            store=MemoryStore(journal),
            directory=state,
            grace_s=1,
            children=ChildPolicy(**policy),
            engine_env=engine_env,
        ) as house:
            yield Driver(house)

    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "key").write_text(CANARY + "\n")
    (tmp_path / "secrets" / "key").chmod(0o600)
    return opened


def by_file(tmp_path: Path) -> dict[str, Any]:
    return {"env": {"KEY": {"file": str(tmp_path / "secrets" / "key")}}}


async def refusal(house: EmbeddedHouse, config: Mapping[str, Any], kind: str = "shell") -> tuple[list[Any], str]:
    """Where the fault is, and what is said."""
    with pytest.raises(ValidationFailed) as caught:
        await house.spawn(NewEngine(kind=kind, config=dict(config)))
    assert (await house.list()).items == []
    faults: Any = caught.value.extra["errors"]
    assert len(faults) == 1
    return faults[0]["loc"], caught.value.detail


# -- where -------------------------------------------------------------------------------------------------------------
async def test_a_workspace_is_where_a_session_begins(opened: Opened, tmp_path: Path) -> None:
    async with opened() as drive:
        shell = await drive.spawn("shell", {"workspace": "alice"})
        run = await drive.run(shell, "pwd")
        assert run.result["output"] == f"{tmp_path}/state/workspaces/alice\n"


async def test_a_directory_of_the_house_is_refused_at_the_spawn_and_again_at_the_start(
    opened: Opened, tmp_path: Path
) -> None:
    async with opened() as drive:
        (tmp_path / "alias").symlink_to(tmp_path / "state")
        (tmp_path / "later").mkdir()
        for cwd in ("state", "state/runs", "alias/runs"):
            loc, said = await refusal(drive.house, {"cwd": str(tmp_path / cwd)})
            assert loc == ["config", "cwd"]
            assert "it is the house's own directory" in said
        engine, _ = await drive.house.spawn(
            NewEngine(kind="shell", config={"cwd": str(tmp_path / "later")}, start=False)
        )
        (tmp_path / "later").rmdir()
        (tmp_path / "later").symlink_to(tmp_path / "state")
        async with drive.seen(engine.id, "engine.failed"):
            await drive.house.start(engine.id)
        ended = (await drive.house.get(engine.id)).last_exit
        assert ended is not None
        assert (ended["cause"], "it is the house's own" in ended["error"]) == ("unmendable", True)


async def test_outside_of_the_roots_or_through_a_link_is_refused(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to("/etc")
    async with opened(roots=(str(tmp_path / "root"),)) as drive:
        for cwd, why in (("/", "not beneath"), (".", "not beneath"), (f"{tmp_path}/root/link", "a link is on the way")):
            loc, said = await refusal(drive.house, {"cwd": cwd})
            assert loc == ["config", "cwd"]
            assert why in said
        shell = await drive.spawn("shell", {"cwd": str(tmp_path / "root" / "inside")})
        assert (await drive.run(shell, "pwd")).result["output"] == f"{tmp_path}/root/inside\n"


@pytest.mark.parametrize(
    "config", [{"workspace": ".."}, {"workspace": "a/b"}, {"workspace": "a\n"}, {"workspace": "a", "cwd": "/tmp"}]
)
async def test_a_workspace_that_cannot_be_meant_is_refused(opened: Opened, config: dict[str, Any]) -> None:
    async with opened() as drive:
        with pytest.raises(ValidationFailed):
            await drive.house.spawn(NewEngine(kind="shell", config=config))


async def test_a_house_without_workspaces_says_so(house: EmbeddedHouse) -> None:
    loc, said = await refusal(house, {"workspace": "alice"})
    assert (loc, "no workspaces" in said) == (["config", "workspace"], True)


async def test_a_template_is_looked_at_like_an_engine(opened: Opened, tmp_path: Path) -> None:
    async with opened() as drive:
        bad = Template(kind="shell", config={"cwd": str(tmp_path / "state")})
        with pytest.raises(ValidationFailed):
            await drive.house.create_pool(NewPool(id="bad", template=bad))
        good = Template(kind="shell", config={"workspace": "shared"})
        await drive.house.create_pool(NewPool(id="good", template=good))
        made: list[bool] = []

        async def one() -> None:
            made.append((await drive.house.get_or_spawn("good", "key"))[1])

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert sorted(made) == [False] * 4 + [True]


# -- how much ----------------------------------------------------------------------------------------------------------
async def test_limits_hold_for_the_commands_of_a_shell_and_too_much_is_named(opened: Opened, tmp_path: Path) -> None:
    async with opened(limits=ResourceLimits(files=200)) as drive:
        shell = await drive.spawn("shell", {"cwd": str(tmp_path), "limits": {"file_bytes": 4096, "cpu_s": 100}})
        assert (await drive.run(shell, "ulimit -n; ulimit -t")).result["output"] == "200\n100\n"
        run = await drive.run(shell, "head -c 100000 /dev/zero >big")
        assert run.status == "failed"
        assert "its limit file_bytes" in str(run.error)


async def test_a_program_that_used_too_much_is_a_crash_that_says_so(opened: Opened) -> None:
    async with opened() as drive:
        spin = {"argv": ["sh", "-c", "while :; do :; done"], "protocol": "none", "limits": {"cpu_s": 1}}
        ended = await drive.last_exit("process", spin)
        assert ended["cause"] == "crashed"
        assert "its limit cpu_s" in ended["error"]


# -- what it is given --------------------------------------------------------------------------------------------------
SAY = "echo $KEY; printf %s $KEY | fold -w1; echo; for c in $(printf %s $KEY | fold -w3); do printf %s $c; done"


async def test_a_secret_is_given_to_the_program_and_is_nowhere_else(
    opened: Opened, tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    async with opened() as drive:
        frames: list[bytes] = []

        async def watch(events: Any) -> None:
            while True:
                frames.extend(frame.data for frame in await events.receive())

        async with drive.house.events() as events, trio.open_nursery() as nursery:
            nursery.start_soon(watch, events)
            for config in (by_file(tmp_path), {"env": {"KEY": {"env": "CANARY"}}}):
                shell = await drive.spawn("shell", {"cwd": str(tmp_path), **config})
                given = await drive.run(shell, f"test $KEY = {CANARY[:4]}''{CANARY[4:]}")
                assert given.status == "completed"
                run = await drive.run(shell, SAY)
                assert run.result["output"].count("***") == 2
                kept, _ = await drive.house.output(run.id)
                assert kept.count(b"***") == 2
                assert CANARY.encode() not in kept
                loud = await drive.run(shell, 'echo "$KEY" >&2; exec "$KEY"')
                assert CANARY not in str(loud)
                assert CANARY not in str(await drive.house.get(shell))
            nursery.cancel_scope.cancel()
    everything = b"".join(row.wire for row in journal.rows)
    assert b'"output"' in everything
    assert CANARY.encode() not in everything + b"".join(frames)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files
    assert not any(CANARY.encode() in path.read_bytes() for path in files)


TELL = """
import json, os, sys
key = os.environ["KEY"]
def say(**members): print(json.dumps(members), flush=True)
print("starting with " + key, file=sys.stderr, flush=True)
say(type="hello", protocol=1)
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "run":
        id = message["id"]
        say(type="event", name="told", data={key: [key]})
        say(type="update", slice="said", value={"key": key})
        say(type="log", text="log " + key, id=id)
        say(type="output", text=key[:7], id=id)
        say(type="output", text=key[7:] + "\\n", id=id)
        say(type="progress", data={"key": key}, id=id)
        if message["input"] == "fail":
            say(type="error", id=id, slug="broken", detail="no " + key, result=key)
        elif message["input"] == "break":
            print("this is no JSON but " + key, flush=True)
        elif message["input"] == "long":
            print(key * 100000, flush=True)
        elif message["input"] == "die":
            print("dying " + key, file=sys.stderr, flush=True)
            sys.exit(3)
        else:
            say(type="result", id=id, result={"key": key})
"""


@pytest.mark.parametrize("input", ["go", "fail", "break", "long", "die"])
async def test_a_program_that_speaks_cannot_say_its_secret_either(
    opened: Opened, tmp_path: Path, journal: Journal, input: str
) -> None:
    async with opened() as drive:
        config = {"argv": [sys.executable, "-c", TELL], **by_file(tmp_path)}
        engine = await drive.spawn("process", config)
        run = await drive.run(engine, input)
        assert run.status == ("completed" if input == "go" else "failed")
        assert (await drive.house.output(run.id))[0] == b"***\n"
        if input == "go":
            assert run.result == {"key": "***"}
    said = b"".join(row.wire for row in journal.rows)
    assert b"***" in said
    assert CANARY.encode() not in said
    assert CANARY[:12].encode() not in said


async def test_what_a_program_without_words_prints_is_masked_before_lines_are_cut(
    opened: Opened, tmp_path: Path, journal: Journal
) -> None:
    show = "import os, sys; k = os.environ['KEY']; print('x' * 8185 + k); print(k, file=sys.stderr); print(k, end='')"
    async with opened() as drive:
        config = {"argv": [sys.executable, "-c", show], "protocol": "none", **by_file(tmp_path)}
        await drive.last_exit("process", config)
    said = b"".join(row.wire for row in journal.rows)
    assert CANARY[:7].encode() not in said
    assert b"x***" in said


async def test_a_secret_that_cannot_be_had_fails_the_engine_with_a_sentence(opened: Opened, tmp_path: Path) -> None:
    async with opened() as drive:
        (tmp_path / "secrets" / "key").chmod(0o644)
        ended = await drive.last_exit("shell", {"cwd": str(tmp_path), **by_file(tmp_path)})
        assert (ended["cause"], "nobody else's to read" in ended["error"]) == ("unmendable", True)
        (tmp_path / "secrets" / "key").unlink()
        ended = await drive.last_exit("process", {"argv": ["true"], **by_file(tmp_path)})
        assert "cannot be opened" in ended["error"]


@pytest.mark.parametrize("reference", [{"env": "HOME"}, {"file": "/etc/passwd"}, {"file": "/proc/self/environ"}])
async def test_what_may_not_be_referred_to_is_refused(house: EmbeddedHouse, reference: dict[str, str]) -> None:
    loc, said = await refusal(house, {"env": {"KEY": reference}})
    assert loc == ["config", "env", "KEY"]
    assert "may refer to" in said


@pytest.mark.parametrize(
    "reference", [{}, {"env": "A", "file": "/a"}, {"file": "relative"}, {"file": "/a\0b"}, {"cmd": "x"}, 5, None, []]
)
async def test_a_reference_that_cannot_be_meant_is_refused(house: EmbeddedHouse, reference: object) -> None:
    with pytest.raises(ValidationFailed):
        await house.spawn(NewEngine(kind="shell", config={"env": {"KEY": reference}}))


async def test_a_short_secret_is_given_and_warned_about(opened: Opened, tmp_path: Path) -> None:
    async with opened() as drive:
        (tmp_path / "secrets" / "key").write_text("1234")
        config = {"cwd": str(tmp_path), **by_file(tmp_path)}
        await drive.house.spawn(NewEngine(kind="shell", id="e", config=config, start=False))
        async with drive.seen("e", "log.line", holding="too short to be hidden"):
            await drive.house.start("e")
        assert (await drive.run("e", "echo $KEY")).result["output"] == "1234\n"


async def test_access_to_the_house_is_given_to_who_asks_for_it_and_is_hidden(opened: Opened, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def access(spec: Spec, incarnation: int) -> Mapping[str, str]:
        asked.append((spec.id, incarnation))
        return {"ENGINEHOUSE_URL": "http://127.0.0.1:1", "ENGINEHOUSE_API_KEY": f"token-of-{spec.id}-{incarnation}"}

    async with opened(engine_env=access) as drive:
        await drive.spawn("shell", {"cwd": str(tmp_path)}, id="without")
        assert (await drive.run("without", "echo [$ENGINEHOUSE_URL$ENGINEHOUSE_API_KEY]")).result["output"] == "[]\n"
        await drive.spawn(
            "shell", {"cwd": str(tmp_path), "api": True, "env": {"ENGINEHOUSE_API_KEY": "mine"}}, id="with"
        )
        run = await drive.run("with", "echo $ENGINEHOUSE_URL $ENGINEHOUSE_API_KEY ${#ENGINEHOUSE_API_KEY}")
        assert run.result["output"] == "http://127.0.0.1:1 *** 15\n"
        assert asked == [("with", 1)]


# -- an engine of one's own --------------------------------------------------------------------------------------------
class Teller(Engine):
    """Hides what it was told, and says it in every way it can."""

    kind = "teller"

    async def on_run(self, ctx: Any, run: Any) -> Any:
        ctx.hide(CANARY)
        await ctx.emit("teller.said", {"x": CANARY})
        ctx.log(f"it is {CANARY}", field=CANARY)
        ctx.update("slice", [CANARY])
        await ctx.output(CANARY[:5])
        await ctx.output(CANARY[5:])
        env = await ctx.environment({"A": "1"})
        process = await ctx.spawn_process(["sh", "-c", "echo $A"], env=env)
        async with ctx.process_wait():
            assert await process.stdout.receive_some() == b"1\n"
        if run.input == "crash":
            raise ValueError(f"crashed with {CANARY}")
        await ctx.ask_human(f"Is it {CANARY}?", deadline_s=0.01)


@pytest.mark.parametrize("input", ["ask", "crash"])
async def test_an_engine_of_ones_own_can_hide_what_it_knows(journal: Journal, input: str, tmp_path: Path) -> None:
    async with open_supervisor(store=MemoryStore(journal), kinds=[Teller], directory=tmp_path) as house:
        drive = Driver(house)
        await drive.spawn("teller", {}, id="t")
        run = await drive.run("t", input)
        assert run.status == "failed"
        assert (await house.output(run.id))[0] == b"***"
    said = b"".join(row.wire for row in journal.rows)
    assert said.count(b"***") >= 5
    assert CANARY.encode() not in said


# -- sandboxes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "limit, controller", [("tree_memory_bytes", "memory"), ("tree_cpus", "cpu"), ("tree_processes", "pids")]
)
@pytest.mark.parametrize("groups", [None, ControlGroups(base="/nowhere")], ids=["no groups", "no controller"])
async def test_a_limit_of_a_tree_that_this_machine_cannot_set_is_refused_at_the_spawn(
    opened: Opened, groups: ControlGroups | None, limit: str, controller: str
) -> None:
    async with opened(groups=groups) as drive:
        config = {"argv": ["true"], "limits": {limit: 1 << 20 if limit.endswith("bytes") else 1}}
        said = rf"config\.limits\.{limit}: it bounds a whole tree.*{controller}.*memory_bytes"
        with pytest.raises(ValidationFailed, match=said):
            await drive.house.spawn(NewEngine(kind="process", config=config))
        assert (await drive.house.list()).items == []


async def test_an_engine_shows_its_processes_what_they_use_and_what_holds_them(opened: Opened, tmp_path: Path) -> None:
    secret = {"SECRET": {"file": str(tmp_path / "secrets" / "key")}}
    busy = "while :; do :; done"
    script = f'sh -c "{busy}" "$SECRET" & sh -c "exit 0"; sleep 1000 & echo up; wait'
    config = {
        "argv": ["/bin/sh", "-c", script], "protocol": "none", "env": secret, "ready": {"line": "up"},
        "limits": {"files": 99, "cpu_s": 500},
    }  # fmt: skip
    async with opened(limits=ResourceLimits(core_bytes=0)) as drive:
        await drive.house.spawn(NewEngine(kind="process", id="p", config=config))
        with trio.fail_after(30):
            while (tree := await drive.house.processes("p")).total.cpu_s < 0.2:  # noqa: ASYNC110 - as said below
                await trio.sleep(0.05)
        root, *children = tree
        assert (root.command, root.name, root.state) == (["/bin/sh", "-c", script], "sh", "sleeping")
        assert {child.ppid for child in children} == {root.pid}
        [spinner] = [child for child in children if child.command[:2] == ["sh", "-c"]]
        assert spinner.command == ["sh", "-c", busy, "***"]
        assert spinner.cpu_percent > 0
        assert all(row.rss_bytes > 0 and row.threads == 1 for row in tree)
        assert (tree.total.processes, tree.total.threads) == (3, 3)
        assert tree.total.rss_bytes == sum(row.rss_bytes for row in tree)
        assert tree.total.cpu_percent >= spinner.cpu_percent
        assert tree.confinement is not None
        assert tree.confinement.limits == {"files": 99, "cpu_s": 500, "core_bytes": 0}
        assert (tree.confinement.control_group, tree.confinement.killed_by) == (None, "signals")
        assert (await drive.house.pause("p", wait_s=20)) is not None
        assert {row.state for row in await drive.house.processes("p")} == {"stopped"}
        await drive.house.dispose("p", force=True, grace_s=0)


@pytest.mark.parametrize("starved", [True, False])
async def test_a_program_that_the_kernel_ended_for_its_memory_says_so(
    opened: Opened, starved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tree, "starved", starved)
    async with opened() as drive:
        config = {"argv": ["/bin/sh", "-c", "kill -9 $$"], "protocol": "none"}
        await drive.house.spawn(
            NewEngine(kind="process", id="p", config=config, restart=Restart(policy=Policy.TEMPORARY))
        )
        with trio.fail_after(30):
            while (info := await drive.house.get("p")).state != "failed":  # noqa: ASYNC110 - as said below
                await trio.sleep(0.02)
        assert info.last_exit is not None
        assert ("limit tree_memory_bytes" in str(info.last_exit)) is starved


async def test_an_engine_without_a_program_has_no_processes_and_nothing_that_holds_them(opened: Opened) -> None:
    async with opened() as drive:
        await drive.house.spawn(NewEngine(kind="probe", id="p"))
        tree = await drive.house.processes("p")
        assert (list(tree), tree.total, tree.confinement) == ([], ProcessTotal(), None)


async def test_a_sandbox_that_this_machine_cannot_make_is_refused_at_the_spawn(
    house: EmbeddedHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    loc, said = await refusal(house, {"sandbox": {"by": "bubblewrap"}})
    assert (loc, "there is no program bwrap" in said) == (["config", "sandbox"], True)


async def test_a_port_cannot_be_ready_where_the_network_is_shut(house: EmbeddedHouse) -> None:
    config = {"argv": ["true"], "ready": {"port": 80}, "sandbox": {"by": "landlock"}}
    with pytest.raises(ValidationFailed, match="opens the network"):
        await house.spawn(NewEngine(kind="process", config=config))


@pytest.mark.parametrize("by", HERE)
async def test_a_sandbox_that_would_open_the_state_is_refused(opened: Opened, tmp_path: Path, by: str) -> None:
    async with opened() as drive:
        loc, said = await refusal(drive.house, {"cwd": str(tmp_path), "sandbox": {"by": by}})
        assert (loc, "would open the house's own" in said) == (["config", "sandbox"], True)


@pytest.mark.parametrize("by", HERE)
async def test_a_shell_in_a_sandbox_is_a_shell(opened: Opened, tmp_path: Path, by: str) -> None:
    (tmp_path / "other").write_text("theirs")
    async with opened() as drive:
        shell = await drive.spawn("shell", {"workspace": "alice", "sandbox": {"by": by}})

        async def said(command: Any) -> str:
            run = await drive.run(shell, command)
            assert run.status == "completed", run
            return str(run.result["output"])

        assert await said("X=5; cd /; echo hi; sleep 1000 &") == "hi\n"
        assert await said("echo $X; pwd; cat") == "5\n/\n"
        assert await said({"command": "tr a-z A-Z", "stdin": "given\n" * 20_000}) == ("GIVEN\n" * 20_000)[-65536:]
        assert await said("cat; echo again") == "again\n"
        assert "sleep 1000" in await said("jobs")
        assert await said(f"cat {tmp_path}/other 2>/dev/null || echo shut") == "shut\n"
        assert (await drive.run(shell, "if then (")).status == "failed"
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "echo begun; sleep 1000")
        async with drive.seen(shell, "run.cancelled", within_s=5):
            await drive.house.cancel(run)
        assert await said("echo $X") == "5\n"
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "echo begun; while ! test -e /proc/self/nothing; do :; done")
        await drive.house.pause(shell, wait_s=5)
        pids = [row.pid for row in await drive.house.processes(shell)]
        stats = [linux.read(pid) for pid in pids]
        assert {stat.state for stat in stats if stat} == {"T"}
        disposed = await drive.house.dispose(shell, force=True)
        assert disposed.leaks == []
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # noqa: ASYNC240 - /proc does not block


@pytest.mark.parametrize("by", HERE)
async def test_a_program_in_a_sandbox_speaks_as_ever(opened: Opened, tmp_path: Path, by: str) -> None:
    async with opened() as drive:
        config = {"argv": ["python3", "-c", TELL], "workspace": "bob", "sandbox": {"by": by}, **by_file(tmp_path)}
        engine = await drive.spawn("process", config)
        assert (await drive.run(engine, "go")).result == {"key": "***"}


async def test_the_documented_words_are_in_the_schema(house: EmbeddedHouse) -> None:
    for kind in ("shell", "process"):
        found = json.dumps((await house.kind(kind)).config_schema)
        assert {"cpu_s", "bubblewrap", "landlock", "workspace", "file"} <= set(found.split('"'))
