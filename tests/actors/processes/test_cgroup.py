"""Control groups: what is written to them and read from them, in a hierarchy of files, and in this machine's own."""

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import trio

from actors.children import ChildPolicy, ControlGroups, ResourceLimits
from actors.processes import Process, SpawnFailed, Tree, cgroup, claim, reap_leftovers
from actors.processes.delegation import LEAF, own_group

Words = Callable[[Process, int], Awaitable[list[str]]]
FILES = {
    "cgroup.procs": "", "cgroup.freeze": "0\n", "cgroup.kill": "", "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.max.depth": "max\n", "cgroup.max.descendants": "max\n", "cgroup.type": "domain\n",
    "cgroup.controllers": "cpu io memory pids\n", "cgroup.subtree_control": "", "cpu.max": "max 100000\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\n", "memory.max": "max\n", "memory.swap.max": "max\n",
    "memory.events": "oom 2\noom_kill 1\n", "pids.max": "max\n",
}  # fmt: skip


def group(path: Path, changed: Mapping[str, str | None] = {}) -> Path:
    """The files of a group, as a kernel shows them; None: without that file."""
    path.mkdir(exist_ok=True)
    for name, text in {**FILES, **changed}.items():
        if text is not None:
            (path / name).write_text(text)
    return path


def test_limits_are_written_as_the_kernel_reads_them(tmp_path: Path) -> None:
    made = group(tmp_path / "tree", dict.fromkeys(("memory.max", "memory.swap.max", "cpu.max", "pids.max"), ""))
    cgroup.bound(str(made), 1 << 30, 1.5, 64)
    wanted = {"memory.max": "1073741824", "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "64"}
    assert {name: (made / name).read_text() for name in wanted} == wanted


def test_a_limit_without_its_controller_is_an_error_and_never_left_out(tmp_path: Path) -> None:
    made = group(tmp_path / "tree", {"memory.max": None})
    with pytest.raises(FileNotFoundError):
        cgroup.bound(str(made), 1 << 30, None, None)
    cgroup.bound(str(made), None, 0.001, None)
    assert (made / "cpu.max").read_text().startswith("1000 100000")  # the kernel takes no less


def test_what_a_group_used_is_what_its_controllers_counted(tmp_path: Path) -> None:
    assert cgroup.used(str(group(tmp_path / "a"))) == {"cpu_us": 2_500_000, "killed": 1}
    bare = group(tmp_path / "b", {"memory.events": None})
    assert cgroup.used(str(bare)) == {"cpu_us": 2_500_000}
    assert cgroup.used(str(tmp_path / "none")) == {}


def test_members_are_counted_in_groups_below_too(tmp_path: Path) -> None:
    tree = group(tmp_path / "tree", {"cgroup.procs": "12\n7\n"})
    group(tree / "inner", {"cgroup.procs": "9\n0\n"})
    assert cgroup.members(str(tree)) == {7, 9, 12}  # 0: somebody outside of our pid namespace
    (tree / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert cgroup.is_frozen(str(tree))
    assert not cgroup.is_frozen(str(tree / "inner"))


def test_what_an_older_kernel_lacks_is_said(tmp_path: Path) -> None:
    old = str(group(tmp_path / "old", {"cgroup.kill": None, "cgroup.freeze": None}))
    assert not cgroup.kill(old)
    assert not cgroup.freeze(old, frozen=True)
    new = group(tmp_path / "new")
    assert cgroup.kill(str(new))
    assert (new / "cgroup.kill").read_text() == "1"


def test_the_groups_of_a_house_are_those_that_begin_with_its_name(tmp_path: Path) -> None:
    for name in ("house-1.a.1", "house-1.b.2", "house-1", "house-12.a.1", "other"):
        (tmp_path / name).mkdir()
    found = cgroup.beginning(str(tmp_path / "house-1"))
    assert sorted(Path(path).name for path in found) == ["house-1", "house-1.a.1", "house-1.b.2"]


def test_a_marker_is_one_folder_below_the_base() -> None:
    assert ControlGroups(base="/sys/x").path("a/../b c.eng.1") == "/sys/x/a_.._b_c.eng.1"


# -- where groups may be made ------------------------------------------------------------------------------------------
def proc(tmp_path: Path, place: str, mounted_at: Path, root: str = "/") -> Path:
    made = tmp_path / "proc"
    (made / "self").mkdir(parents=True)
    (made / "self/cgroup").write_text(f"3:cpu:/elsewhere\n0::{place}\n")
    (made / "self/mountinfo").write_text(
        "24 1 0:22 / /proc rw - proc proc rw\n"
        f"30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        f"31 24 0:27 {root} {mounted_at} rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    return made


def test_our_own_group_is_found_in_any_mount(tmp_path: Path) -> None:
    assert own_group(proc(tmp_path, "/system.slice/house.service", Path("/sys/fs/cgroup"))) == (
        Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/system.slice/house.service"),
    )  # fmt: skip


def test_a_container_that_sees_a_part_of_the_hierarchy_sees_itself_at_its_root(tmp_path: Path) -> None:
    found = own_group(proc(tmp_path, "/docker/1", Path("/sys/fs/cgroup"), root="/docker/1"))
    assert found == (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup"))


def test_without_a_version_2_hierarchy_there_are_no_groups(tmp_path: Path) -> None:
    made = proc(tmp_path, "/x", Path("/y"), root="/other")
    assert own_group(made) is None
    assert claim(proc=made) == "no hierarchy of control groups of version 2 is mounted"
    assert own_group(tmp_path / "none") is None


def test_a_delegated_group_is_claimed_and_its_controllers_are_handed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = group(tmp_path / "mount")
    service = group(mount / "house.service")
    group(service / LEAF)
    delegated(monkeypatch, service)
    where = proc(tmp_path, "/house.service", mount)
    kernel_adds(monkeypatch, service)
    claimed = claim(proc=where)
    assert claimed == ControlGroups(base=str(service), controllers=frozenset({"cpu", "memory", "pids"}))
    assert (service / LEAF / "cgroup.procs").read_text() == str(os.getpid()), "who has processes hands nothing down"


def test_one_that_is_in_its_leaf_already_claims_the_group_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = group(tmp_path / "mount")
    service = group(mount / "house.service", {"cgroup.subtree_control": "cpu memory pids\n"})
    leaf = group(service / LEAF)
    delegated(monkeypatch, service)
    claimed = claim(proc=proc(tmp_path, f"/house.service/{LEAF}", mount))
    assert claimed == ControlGroups(base=str(service), controllers=frozenset({"cpu", "memory", "pids"}))
    assert (leaf / "cgroup.procs").read_text() == ""


def test_what_nobody_gave_us_is_left_alone_also_by_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = group(tmp_path / "mount")
    scope = group(mount / "session.scope")
    delegated(monkeypatch, None)
    said = claim(proc=proc(tmp_path, "/session.scope", mount))
    assert said == f"{scope} was not given to us (Delegate=yes does that)"
    assert sorted(child.name for child in scope.iterdir() if child.is_dir()) == []


def test_a_group_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    said = claim(tmp_path / "none")
    assert said == f"no group can be made in {tmp_path / 'none'}: No such file or directory"


def delegated(monkeypatch: pytest.MonkeyPatch, given: Path | None) -> None:
    """As root sees it: only what has the attribute was given away."""

    def attribute(path: Path, name: str) -> bytes:
        if path == given and name == "trusted.delegate":
            return b"1"
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getxattr", attribute)


def kernel_adds(monkeypatch: pytest.MonkeyPatch, of: Path) -> None:
    """A controller that is written with a + is there afterwards, once the daemon has left."""
    write = cgroup.write

    def written(group: str, name: str, value: str) -> None:
        if name == "cgroup.subtree_control":
            assert (of / LEAF / "cgroup.procs").read_text(), "EBUSY, said the kernel"
            file = Path(group, name)
            file.write_text(f"{file.read_text()} {value.removeprefix('+')}")
        else:
            write(group, name, value)

    monkeypatch.setattr(cgroup, "write", written)


# -- for real, where this machine gives us some ------------------------------------------------------------------------
HERE = [groups] if isinstance(groups := claim(), ControlGroups) else []
really = pytest.mark.parametrize("groups", HERE, indirect=True, ids=["groups"] * len(HERE))


@really
async def test_a_tree_is_in_its_group_and_the_group_goes_with_it(
    tree: Tree, groups: ControlGroups, words: Words
) -> None:
    process = await tree.spawn(["sh", "-c", "setsid sleep 1000 & echo up; wait"])
    await words(process, 1)
    folder = groups.path(tree.marker)
    assert cgroup.members(folder) == {known.pid for known in tree.processes()}
    assert len(cgroup.members(folder)) == 2
    await tree.freeze()
    assert cgroup.is_frozen(folder)
    assert {known.status for known in tree.processes()} == {"stopped"}
    assert await tree.end(5) == []
    assert not cgroup.has(folder, "cgroup.procs")
    await process.aclose()


@really
async def test_groups_that_a_tree_made_below_its_own_go_too(tree: Tree, groups: ControlGroups, words: Words) -> None:
    folder = groups.path(tree.marker)
    script = f"mkdir -p {folder}/a/b && echo $$ >{folder}/a/b/cgroup.procs && echo up; sleep 1000"
    process = await tree.spawn(["sh", "-c", script])
    await words(process, 1)
    assert await tree.end(5) == []
    assert not cgroup.has(folder, "cgroup.procs")
    await process.aclose()


@really
async def test_what_was_left_in_a_group_is_found_without_any_marker(house: str, groups: ControlGroups) -> None:
    folder = groups.path(f"{house}.engine.1")
    cgroup.make(folder)
    left = await trio.lowlevel.open_process(["sleep", "1000"], env={})
    cgroup.write(folder, "cgroup.procs", str(left.pid))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.wait)
        ended, leaks = await reap_leftovers(house, groups=groups, term_s=0.5)
    assert ([known.pid for known in ended], leaks) == ([left.pid], [])
    assert await reap_leftovers(house, groups=groups) == ([], [])
    assert not cgroup.has(folder, "cgroup.procs")


async def test_a_limit_of_a_tree_that_cannot_be_set_starts_nothing(house: str) -> None:
    tree = Tree(f"{house}.engine.1", ChildPolicy(groups=ControlGroups(base="/nowhere")))
    with pytest.raises(SpawnFailed, match=r"tree_cpus bounds a whole tree.*'cpu'.*without it") as caught:
        await tree.spawn(["true"], limits=ResourceLimits(tree_cpus=1))
    assert caught.value.reason == "no-limit"
    assert await tree.end(0) == []


async def test_a_program_starts_in_its_group_and_within_its_bounds(house: str, tmp_path: Path) -> None:
    marker = f"{house}.engine.1"
    folder = group(tmp_path / marker, dict.fromkeys(("memory.max", "memory.swap.max", "cpu.max", "pids.max"), ""))
    groups = ControlGroups(base=str(tmp_path), controllers=frozenset({"memory", "cpu", "pids"}))
    tree = Tree(marker, ChildPolicy(groups=groups, limits=ResourceLimits(tree_processes=9)))
    process = await tree.spawn(["sleep", "1000"], limits=ResourceLimits(tree_memory_bytes=1 << 20, tree_cpus=0.5))
    wanted = {"memory.max": "1048576", "memory.swap.max": "0", "cpu.max": "50000 100000", "pids.max": "9"}
    assert {name: (folder / name).read_text() for name in wanted} == wanted
    assert (folder / "cgroup.procs").read_text() == "0"  # itself, says whoever writes that
    assert tree.starved  # memory.events says so
    await process.aclose()
    shutil.rmtree(folder)  # which a kernel allows without its files, and a disk does not
    assert await tree.end(0) == []


async def test_a_group_that_cannot_be_made_starts_nothing(house: str) -> None:
    tree = Tree(f"{house}.engine.1", ChildPolicy(groups=ControlGroups(base="/nowhere")))
    with pytest.raises(SpawnFailed, match=r"control group '/nowhere/.*No such file"):
        await tree.spawn(["true"])
    assert await tree.end(0) == []


def test_a_policy_with_limits_that_cannot_be_set_is_none() -> None:
    with pytest.raises(ValueError, match="tree_processes: bounds a whole tree"):
        ChildPolicy(limits=ResourceLimits(tree_processes=10))
    ChildPolicy(
        limits=ResourceLimits(tree_processes=10), groups=ControlGroups(base="/x", controllers=frozenset({"pids"}))
    )
