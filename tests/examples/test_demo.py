"""examples/demo, as `make demo` runs it: unattended, and it checks every word itself."""

import subprocess
import sys
from pathlib import Path

SCENES = (
    "A daemon of our own", "Several engines at once", "An engine asks", "An engine crashes", "kill -9", "Dispose",
    "SIGTERM",
)  # fmt: skip


def test_the_demo_runs_to_its_end(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=root, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [scene for scene in SCENES if f"\n--- {scene}" not in done.stdout] == []
    assert "All of it happened" in done.stdout


def test_what_is_not_so_is_not_said(root: Path) -> None:
    program = (
        "from examples.demo import __main__ as demo, daemon; daemon.SERVE = ['false']; raise SystemExit(demo.run())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "FAILED: the daemon did not start" in done.stderr
    assert "ok:" not in done.stdout
