"""What the machine has, as far as a look can be made to see something else."""

import os
import resource
from pathlib import Path

import pytest

from web.doctor import machine as every
from web.doctor.machine import control_groups, limits, program


def bin_with(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_everything_is_looked_at_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [finding.name for finding in every()]
    assert names == [
        "python", "tmux", "node", "git", "bwrap", "landlock", "cgroups", "systemd", "descriptors", "processes",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_program_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_with(tmp_path, monkeypatch, "thing", "echo thing 7; echo more")
    found = program("thing", "--version", "things")
    assert (found.status, found.detail) == ("ok", f"thing 7 ({tmp_path}/thing)")


def test_a_program_that_does_not_run_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_with(tmp_path, monkeypatch, "thing", "echo a library is missing >&2; exit 127")
    found = program("thing", "--version", "things")
    assert (found.status, "exit status 127: a library is missing" in found.detail) == ("wrong", True)
    (tmp_path / "thing").write_bytes(b"\x7fELF")
    assert program("thing", "--version", "things").status == "wrong"


def test_a_program_that_is_not_here_is_absent_and_its_use_is_told() -> None:
    found = program("no-such-program", "--version", "things")
    assert (found.status, "needed for things" in found.detail) == ("absent", True)


def groups(folder: Path, controllers: str, *, given: bool = True) -> Path:
    """A /proc whose hierarchy is mounted where a machine with both versions has it. `given`: its group, to us."""
    proc, mount = folder / "proc", folder / "cgroup" / "unified"
    (mount / "house").mkdir(parents=True)
    (mount / "house" / "cgroup.controllers").write_text(controllers)
    (mount / "house" / "cgroup.procs").touch()
    if given:
        os.setxattr(mount / "house", "user.delegate", b"1")
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("4:memory:/old\n0::/house\n")
    (proc / "self" / "mountinfo").write_text(f"31 24 0:27 / {mount} rw - cgroup2 cgroup2 rw\n")
    return proc


def test_control_groups_that_can_be_divided(tmp_path: Path) -> None:
    found = control_groups(groups(tmp_path, "cpuset cpu io memory pids\n"))
    assert (found.status, str(tmp_path / "cgroup/unified/house") in found.detail) == ("ok", True)


def test_control_groups_without_what_is_needed(tmp_path: Path) -> None:
    found = control_groups(groups(tmp_path, "cpu io\n"))
    assert (found.status, "has no memory, no pids" in found.detail) == ("absent", True)


def test_root_may_write_control_groups_that_are_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = control_groups(groups(tmp_path, "cpu memory pids\n", given=False))
    assert (found.status, "was not given to us" in found.detail) == ("absent", True)


def test_no_control_groups(tmp_path: Path) -> None:
    found = control_groups(tmp_path)
    assert (found.status, "no hierarchy of control groups of version 2" in found.detail) == ("absent", True)


@pytest.mark.parametrize("most, status", [(100, "wrong"), (100_000, "ok"), (resource.RLIM_INFINITY, "ok")])
def test_few_descriptors_are_wrong(most: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (50, most))
    assert limits("descriptors", resource.RLIMIT_NOFILE, 4096, "engines").status == status
