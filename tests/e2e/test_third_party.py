"""examples/inbox: a distribution with a kind of its own, built, installed, and spawned by a real daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import NewEngine, NewRun
from tests.e2e.daemons import running


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away folder with the example in it, installed from its wheel and from nowhere else."""
    folder = tmp_path_factory.mktemp("third-party")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(root / "examples/inbox")], check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("enginehouse_inbox-*.whl")
    target = folder / "site"
    install = ["install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=120)
    return target


async def test_an_installed_kind_is_spawned_by_its_name(installed: Path, tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "a.txt").write_text("dear house\n")
    async with running(tmp_path / "state", env={"PYTHONPATH": str(installed)}) as daemon, daemon.client() as house:
        assert "inbox" in [kind.kind for kind in await house.kinds()]
        assert (await house.kind("inbox")).emits == ["inbox.arrived"]
        await house.spawn(NewEngine(kind="inbox", id="in", config={"folder": str(letters)}))
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}
        assert (await house.slice("in", "files")).value == {"a.txt": 11}
        # What the house knows survives it; the kind is found again by the next one.
        await daemon.kill()
        await daemon.start()
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}
    # Without the package the engine keeps its place, and whoever asks is told what is missing.
    async with running(tmp_path / "state") as daemon, daemon.client() as house:
        gone = await house.get("in")
        assert gone.state == "failed"
        assert gone.last_exit is not None
        assert "inbox" in str(gone.last_exit["error"])
    async with running(tmp_path / "state", env={"PYTHONPATH": str(installed)}) as daemon, daemon.client() as house:
        await house.start("in")
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}


def test_the_example_passes_its_own_tests(installed: Path, root: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(root)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        command, cwd=root / "examples/inbox", env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
