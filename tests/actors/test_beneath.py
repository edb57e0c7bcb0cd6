"""Directories beneath a root, under attack: by their names, and by who exchanges them meanwhile."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.beneath import descend, workspace_directory


def fault(call: Callable[..., int], *arguments: object) -> int:
    """The errno of what it raises; 0 when it does not."""
    try:
        os.close(call(*arguments))
    except OSError as error:
        return error.errno or -1
    return 0


def real(descriptor: int) -> Path:
    """Where it leads; closes it."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a directory, a file and ways out: `escape` is a link to a directory outside."""
    made = tmp_path / "root"
    (made / "inside" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (made / "file").touch()
    (made / "escape").symlink_to(tmp_path / "outside")
    (made / "inside" / "up").symlink_to("..")
    (made / "near").symlink_to("inside")
    return made


def test_a_directory_below_is_found(root: Path) -> None:
    assert real(descend(root.as_posix(), ["inside", "deep"])) == root / "inside" / "deep"
    assert real(descend(os.fsencode(root), [])) == root


def test_the_links_of_the_root_itself_are_the_operators(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert real(descend(str(tmp_path / "alias"), ["inside"])) == root / "inside"


@pytest.mark.parametrize(
    "steps, code",
    [
        (["escape"], errno.ELOOP),
        (["near", "deep"], errno.ELOOP),
        (["inside", "up", "file"], errno.ELOOP),
        (["file"], errno.ENOTDIR),
        (["absent"], errno.ENOENT),
        (["inside", "..", "..", "outside"], errno.EINVAL),
        ([""], errno.EINVAL),
        (["."], errno.EINVAL),
        (["inside/deep"], errno.EINVAL),
        (["/etc"], errno.EINVAL),
        (["a\0b"], errno.EINVAL),
        (["x" * 300], errno.ENAMETOOLONG),
    ],
)
def test_no_step_leads_out(root: Path, steps: list[str], code: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert fault(descend, str(root), steps) == code
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def swapping(root: Path, tmp_path: Path) -> Iterator[None]:
    """Somebody exchanges `inside` for a link to the outside and back, as fast as it goes."""
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "inside").rename(tmp_path / "kept")
            (root / "inside").symlink_to(tmp_path / "outside")
            (root / "inside").unlink()
            (tmp_path / "kept").rename(root / "inside")

    (tmp_path / "outside" / "deep").mkdir()
    thread = threading.Thread(target=swap)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_no_exchange_leads_out(root: Path, swapping: None, tmp_path: Path) -> None:
    outside = (tmp_path / "outside" / "deep").stat().st_ino
    found: set[int] = set()

    def look() -> int:
        descriptor = descend(str(root), ["inside", "deep"])
        found.add(os.fstat(descriptor).st_ino)
        return descriptor

    assert {fault(look) for _ in range(3000)} <= {0, errno.ELOOP, errno.ENOENT}
    assert outside not in found


def test_a_workspace_is_made_with_its_root_for_us_alone(tmp_path: Path) -> None:
    root = tmp_path / "state" / "workspaces"
    assert real(workspace_directory(str(root), "alice-1.x_Y")) == root / "alice-1.x_Y"
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "alice-1.x_Y").stat().st_mode) == 0o700
    assert real(workspace_directory(os.fsencode(root), b"alice-1.x_Y")) == root / "alice-1.x_Y"
    assert real(workspace_directory(str(root), "trailing...")) == root / "trailing..."
    assert real(workspace_directory(str(root), "x" * 64)) == root / ("x" * 64)


ATTACKS = [
    "", ".", "..", "...", "../x", "a/..", "a/b", "/", "/etc", "./a", ".hidden", "-rf", "_x", "~", "~root", "a b",
    "a\0", "a\n", "\n", "a\r", "a\t", "$(id)", "`id`", "a;b", "a|b", "*", "a*", "%2e%2e", "..%2f", "a\\b", "C:",
    "é", "\u202ea",
    "a\u0300", "\uff0e\uff0e", "\u2024\u2024", "A\ufeff", "a" * 65, "x" * 5000, "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_no_other_name_is_a_workspace(tmp_path: Path, name: str) -> None:
    assert fault(workspace_directory, str(tmp_path / "root"), name) == errno.EINVAL
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_place_of_a_workspace_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    (root / "dangling").symlink_to(tmp_path / "made-through-a-link")
    (root / "file").touch()
    for name, code in (("link", errno.ELOOP), ("dangling", errno.ELOOP), ("file", errno.ENOTDIR)):
        assert fault(workspace_directory, str(root), name) == code
    assert not (tmp_path / "made-through-a-link").exists()
