"""What a policy lets through: variables, places, workspaces."""

import os
from pathlib import Path

import pytest

from actors.children import PASSED, ChildPolicy, Outside, ResourceLimits, Sandbox
from protocol.edge import parse
from protocol.errors import ValidationFailed

HARMLESS = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "LC_TIME": "C", "TZ": "UTC"}
SECRETS = {
    "ENGINEHOUSE_API_KEY": "k", "ENGINEHOUSE_SERVER__ADMIN_KEY": "k", "ENGINEHOUSE_TREE": "t",
    "AWS_SECRET_ACCESS_KEY": "k", "GITHUB_TOKEN": "t", "LC_TOKEN": "t",
    "XDG_RUNTIME_DIR": "/run", "SSH_AUTH_SOCK": "/s", "LD_PRELOAD": "x",
}  # fmt: skip


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    for name, value in {**HARMLESS, **SECRETS}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environ")
def test_by_default_only_harmless_variables_are_passed_on() -> None:
    assert ChildPolicy().environment() == HARMLESS


@pytest.mark.usefixtures("environ")
def test_a_name_is_passed_on_as_it_is_said_and_a_beginning_takes_no_secret_along() -> None:
    assert ChildPolicy(pass_env=()).environment() == {}
    assert set(ChildPolicy(pass_env=("GITHUB_TOKEN", "SSH_AUTH_SOCK")).environment()) == {
        "GITHUB_TOKEN",
        "SSH_AUTH_SOCK",
    }
    assert set(ChildPolicy(pass_env=("LC_*", "AWS_*", "XDG_*")).environment()) == {
        "LC_ALL",
        "LC_TIME",
        "XDG_RUNTIME_DIR",
    }


@pytest.mark.usefixtures("environ")
def test_nothing_of_the_houses_own_is_passed_on_by_any_beginning() -> None:
    assert ChildPolicy(pass_env=("EN*", "ENGINE*")).environment() == {}


@pytest.mark.parametrize("name", ["", "*", "A*B", "ENGINEHOUSE_URL", "ENGINEHOUSE_*", "A=B", "A B", "1A", "A\n"])
def test_what_is_no_name_to_pass_on_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no name|never passed on"):
        ChildPolicy(pass_env=(name,))


def test_without_roots_a_program_starts_anywhere() -> None:
    assert ChildPolicy().place("/a/../b").path == "/b"
    assert ChildPolicy().place(".").path == str(Path.cwd())


@pytest.mark.parametrize(
    "cwd, beneath",
    [("/srv/a", ()), ("/srv/a/x/y", ("x", "y")), ("/srv/a//x/./y/..", ("x",)), ("/srv/b/x", ("x",))],
)
def test_beneath_a_root_it_starts_by_steps_from_there(cwd: str, beneath: tuple[str, ...]) -> None:
    place = ChildPolicy(roots=("/srv/a", "/srv/b/")).place(cwd)
    assert (place.beneath, place.links, place.made) == (beneath, False, False)


@pytest.mark.parametrize("cwd", ["/", "/srv", "/srv/ab", "/srv/a/../c", "/srv/a/x/../../..", ".", "", "/etc"])
def test_outside_of_the_roots_nothing_starts(cwd: str) -> None:
    with pytest.raises(Outside, match="is not beneath '/srv/a'"):
        ChildPolicy(roots=("/srv/a",)).place(cwd)


def test_a_workspace_lies_beneath_its_root_whatever_the_roots() -> None:
    policy = ChildPolicy(roots=("/srv",), private=("/state",), workspaces="/state/workspaces")
    place = policy.workspace("alice")
    assert (place.path, place.links, place.made) == ("/state/workspaces/alice", False, True)
    with pytest.raises(Outside, match="no workspaces"):
        ChildPolicy().workspace("alice")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".a", "a\n", "é", "\N{FULLWIDTH DIGIT ONE}", "a" * 65, "a\0"])
def test_what_is_no_name_of_a_workspace_is_refused(name: str) -> None:
    with pytest.raises(Outside, match="no name of a workspace"):
        ChildPolicy(workspaces="/w").workspace(name)


def test_the_houses_own_directory_is_known_through_links_too(tmp_path: Path) -> None:
    for name in ("state/workspaces/alice", "state/runs", "stately"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "state")
    policy = ChildPolicy(private=(str(tmp_path / "state"),), workspaces=str(tmp_path / "alias" / "workspaces"))
    owned = {name: policy.owns(str(tmp_path / name)) for name in ("state", "state/runs", "alias/runs", "alias/x")}
    assert set(owned.values()) == {True}
    free = [policy.owns(str(tmp_path / name)) for name in ("", "stately", "state/workspaces/alice", "alias/workspaces")]
    assert set(free) == {False}


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\0"])
def test_a_policy_names_absolute_paths(path: str) -> None:
    with pytest.raises(ValueError, match="no absolute path"):
        ChildPolicy(roots=(path,))


def test_an_engines_limits_go_before_the_houses() -> None:
    house = ResourceLimits(cpu_s=10, core_bytes=0)
    assert ResourceLimits(cpu_s=5, files=64).over(house) == ResourceLimits(cpu_s=5, files=64, core_bytes=0)
    assert ResourceLimits().over(house) == house


@pytest.mark.parametrize(
    "limits", [{"cpu_s": 0}, {"cpu_s": 1.5}, {"memory_bytes": -1}, {"files": 3}, {"cpus": 1}, {"files": "100"}, []]
)
def test_limits_that_cannot_be_meant_are_refused(limits: object) -> None:
    with pytest.raises(ValidationFailed):
        parse(ResourceLimits, limits)


@pytest.mark.parametrize(
    "sandbox",
    [
        {}, {"by": "chroot"}, {"by": "landlock", "read": ["etc"]}, {"by": "landlock", "write": ["/a/../b"]},
        {"by": "landlock", "network": 1}, {"by": "bubblewrap", "read": ["/a\0b"]},
        {"by": "landlock", "argv": ["--bind"]},
    ],
)  # fmt: skip
def test_a_sandbox_that_cannot_be_meant_is_refused(sandbox: object) -> None:
    with pytest.raises(ValidationFailed):
        parse(Sandbox, sandbox)


def test_the_documented_defaults() -> None:
    assert "PATH" in PASSED
    policy = ChildPolicy()
    assert (policy.no_new_privs, policy.umask, policy.limits) == (True, 0o022, ResourceLimits(core_bytes=0))
