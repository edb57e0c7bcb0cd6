"""What is set about the programs of engines, and that a daemon holds to it."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.children import PASSED, ChildPolicy, ControlGroups, ResourceLimits
from actors.secrets import Sources
from protocol.bodies import NewEngine, NewRun
from protocol.errors import ValidationFailed
from web.client import open_remote
from web.loaded import load
from web.places import Problem
from web.settings import Settings

Serving = Callable[..., Any]
Enginehouse = Callable[..., "subprocess.CompletedProcess[str]"]


def settings(tmp_path: Path, toml: str = "", **environ: str) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    home = {"HOME": str(tmp_path), "ENGINEHOUSE_CONFIG": str(file), "ENGINEHOUSE_STATE_DIR": "/var/lib/house"}
    return load({**home, **environ}).settings


def refused(tmp_path: Path, toml: str) -> str:
    with pytest.raises(Problem) as caught:
        settings(tmp_path, toml)
    return str(caught.value)


DEFAULT = ChildPolicy(
    pass_env=PASSED,
    limits=ResourceLimits(core_bytes=0),
    private=("/var/lib/house",),
    workspaces="/var/lib/house/workspaces",
    lasting="/var/lib/house/lasting",
)


def test_the_default_is_the_policy_of_the_library_with_the_state_kept_apart(tmp_path: Path) -> None:
    assert settings(tmp_path).child_policy() == DEFAULT


@pytest.mark.parametrize(
    "toml, changed",
    [
        ('children.pass_env = ["PATH", "BUILD_*"]', {"pass_env": ("PATH", "BUILD_*")}),
        ("children.cpu_s = 60", {"limits": ResourceLimits(cpu_s=60, core_bytes=0)}),
        ("children.memory_bytes = 1073741824", {"limits": ResourceLimits(memory_bytes=1 << 30, core_bytes=0)}),
        ("children.processes = 500", {"limits": ResourceLimits(processes=500, core_bytes=0)}),
        ("children.files = 256", {"limits": ResourceLimits(files=256, core_bytes=0)}),
        ("children.file_bytes = 4096", {"limits": ResourceLimits(file_bytes=4096, core_bytes=0)}),
        ("children.core_bytes = 9", {"limits": ResourceLimits(core_bytes=9)}),
        ('children.umask = "077"', {"umask": 0o077}),
        ("children.no_new_privs = false", {"no_new_privs": False}),
        ("children.wall = false", {"wall": False}),
        ('limits.roots = ["/srv/a", "/home"]', {"roots": ("/srv/a", "/home")}),
        ('dialects.workspace.root = "/srv/w"', {"workspaces": "/srv/w"}),
        ('secrets.env = ["DB_PASSWORD"]', {"secrets": Sources(env=frozenset({"DB_PASSWORD"}))}),
        ('secrets.directories = ["/run/secrets"]', {"secrets": Sources(directories=("/run/secrets",))}),
    ],
)
def test_each_setting_reaches_the_policy(tmp_path: Path, toml: str, changed: dict[str, Any]) -> None:
    assert settings(tmp_path, toml).child_policy() == replace(DEFAULT, **changed)


GROUPS = ControlGroups(base="/sys/fs/cgroup/x", controllers=frozenset({"cpu", "memory", "pids"}))


def test_limits_of_trees_reach_the_policy_where_there_are_control_groups(tmp_path: Path) -> None:
    toml = "children.tree_memory_bytes = 1048576\nchildren.tree_cpus = 1.5\nchildren.tree_processes = 64"
    limits = ResourceLimits(tree_memory_bytes=1 << 20, tree_cpus=1.5, tree_processes=64, core_bytes=0)
    assert settings(tmp_path, toml).child_policy(GROUPS) == replace(DEFAULT, limits=limits, groups=GROUPS)


def test_limits_of_trees_are_refused_where_nothing_can_set_them(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"children\.tree_cpus: it bounds a whole tree, which needs control groups"):
        settings(tmp_path, "children.tree_cpus = 1.5").child_policy()


@pytest.mark.parametrize(
    "toml, key, allowed",
    [
        ('children.pass_env = ["PATH", "*"]', "children.pass_env", "names of variables"),
        ('children.pass_env = ["ENGINEHOUSE_URL"]', "children.pass_env", "none of ENGINEHOUSE_"),
        ("children.cpu_s = 0", "children.cpu_s", "1 or more seconds"),
        ("children.memory_bytes = 4", "children.memory_bytes", "1048576 or more"),
        ("children.files = 3", "children.files", "16 to 1048576"),
        ("children.umask = 18", "children.umask", "octal"),
        ("children.tree_cpus = 0", "children.tree_cpus", "0.01 to 4096"),
        ("children.tree_memory_bytes = 4", "children.tree_memory_bytes", "1048576 or more"),
        ("children.tree_processes = 0", "children.tree_processes", "1 or more"),
        ('children.control_groups = "sys/fs"', "children.control_groups", "auto, none or the absolute path"),
        ('children.umask = "999"', "children.umask", "octal"),
        ('limits.roots = ["relative"]', "limits.roots", "absolute paths"),
        ('limits.roots = ["/a/../b"]', "limits.roots", "without .."),
        ('secrets.env = ["ENGINEHOUSE_API_KEY"]', "secrets.env", "none of ENGINEHOUSE_"),
        ('secrets.directories = ["here"]', "secrets.directories", "absolute paths"),
        ('dialects.workspace.root = "here"', "dialects.workspace.root", "absolute path"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key_and_what_is_allowed(
    tmp_path: Path, toml: str, key: str, allowed: str
) -> None:
    sentence = refused(tmp_path, toml)
    assert sentence.startswith(f"{tmp_path}/config.toml: {key}: ")
    assert allowed in sentence


@pytest.mark.parametrize("folder", ["/var/lib/house", "/var/lib", "/", "/var/lib/house/secrets"])
def test_the_state_is_no_place_for_secrets_of_engines(tmp_path: Path, folder: str) -> None:
    assert "the state folder" in refused(tmp_path, f'secrets.directories = ["{folder}"]')


CONFIG = """
[children]
pass_env = ["PATH", "HOME", "BUILD_*"]
files = 321
umask = "027"
[limits]
roots = ["{home}/projects"]
[secrets]
directories = ["{home}/secrets"]
"""
LOOK = 'echo $BUILD_NUMBER [$OTHER] $(ulimit -n) $(umask) "$KEY"; grep NoNewPrivs /proc/$$/status; pwd'


async def test_a_daemon_holds_to_what_is_set(serving: Serving, tmp_path: Path) -> None:
    for name in ("projects/x", "secrets"):
        (tmp_path / name).mkdir(parents=True)
    key = tmp_path / "secrets" / "key"
    key.write_text("hunter2hunter2")
    key.chmod(0o600)
    (tmp_path / "config.toml").write_text(CONFIG.format(home=tmp_path))
    daemon = serving(
        tmp_path, "--port", "0", "--config", str(tmp_path / "config.toml"), BUILD_NUMBER="7", OTHER="x"
    )  # fmt: skip
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        env = {"KEY": {"file": str(key)}}
        for place, where in (
            ({"cwd": f"{tmp_path}/projects/x"}, f"{tmp_path}/projects/x"),
            ({"workspace": "alice"}, f"{daemon.state}/workspaces/alice"),
        ):
            engine, _ = await house.spawn(NewEngine(kind="shell", config={"env": env, **place}))
            assert engine.config["env"] == {"KEY": "********"}
            run, _ = await house.submit(engine.id, NewRun(input=LOOK), wait_s=20)
            assert run.result["output"].splitlines() == ["7 [] 321 0027 ***", "NoNewPrivs:\t1", where]
        for config in ({"cwd": str(tmp_path)}, {"cwd": str(daemon.state)}, {}, {"env": {"K": {"env": "OTHER"}}}):
            with pytest.raises(ValidationFailed):
                await house.spawn(NewEngine(kind="shell", config=config))


def test_an_embedded_house_of_a_command_holds_to_it_too(tmp_path: Path, enginehouse: Enginehouse) -> None:
    where = ("--embedded", "--state-dir", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    spawned = enginehouse(tmp_path, "spawn", "shell", "--cwd", str(tmp_path / "state"), *where)
    assert spawned.returncode == 2
    assert "the house's own directory" in spawned.stderr
