"""Whatever an engine left in its folder can be removed."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.removal import remove

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "engines"
    (root / "eng" / "home").mkdir(parents=True)
    return root


def test_files_folders_links_pipes_and_odd_names(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    home = root / "eng" / "home"
    (home / "0").mkdir()  # as a number of ours
    (home / "0" / "1").write_text("x")
    (home / "\udcff\n").write_text("x")
    (home / "link").symlink_to(outside)
    (home / "dangling").symlink_to("nowhere")
    os.mkfifo(home / "pipe")
    remove(root / "eng")
    assert list(root.iterdir()) == []
    assert (outside / "kept").read_text() == "x"


def test_a_full_disk_gets_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkdtemp

    def full(**where: str) -> str:
        if (root / "eng" / "home" / "large").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(**where)

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    (root / "eng" / "home" / "large").write_text("x")
    remove(root / "eng")
    assert list(root.iterdir()) == []


def test_no_depth_is_too_deep(root: Path) -> None:
    fd = os.open(root / "eng" / "home", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a-name-of-some-length", dir_fd=fd)
        inner = os.open("a-name-of-some-length", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    remove(root / "eng")
    assert list(root.iterdir()) == []


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder of somebody who is not root, who we are for that long."""
    with tempfile.TemporaryDirectory(prefix="enginehouse-test-") as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o555])
def test_folders_that_their_owner_may_not_write(somebody: Path, mode: int) -> None:
    cache = somebody / "eng" / "home" / "cache" / "module"
    cache.mkdir(parents=True)
    (cache / "file").write_text("x")
    for folder in (cache, cache.parent, cache.parent.parent, somebody / "eng"):
        folder.chmod(mode)
    remove(somebody / "eng")
    assert list(somebody.iterdir()) == []


def test_what_cannot_be_removed_is_told_and_the_rest_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = root / "eng" / "home"
    for name in ("a", "busy", "z"):
        (home / name).mkdir()
        (home / name / "file").write_text("x")
    rename = os.rename

    def busy(name: str, to: str, **more: int) -> None:  # as of a mount point
        if name == "busy":
            raise OSError(16, "Device or resource busy", name)
        rename(name, to, **more)

    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(OSError, match="busy"):
        remove(root / "eng")
    assert [path.name for path in root.rglob("*") if not path.is_dir()] == ["file"]
    [left] = root.iterdir()
    assert left.name.startswith("eng.")
    monkeypatch.undo()
    remove(left)
    assert list(root.iterdir()) == []


def test_what_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove(root / "nobody")
    assert [path.name for path in root.iterdir()] == ["eng"]
