"""The protocol's own SDK for JavaScript, whose example agent the tests drive: installed once, as its lock says."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WANTED = HERE.parent.parent / "build" / "acp-sdk"


def installed() -> Path:
    """The directory in which `node_modules` holds it; without npm the test is skipped, or fails where CI=true."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = WANTED / hashlib.sha256(lock).hexdigest()[:16]
    if folder.exists():
        return folder
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        why = "npm and node are needed for the protocol's example agent (Debian: npm, nodejs)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{why}, and CI may not skip what needs them: add them to .ci/run", pytrace=False)
        pytest.skip(why)
    WANTED.mkdir(parents=True, exist_ok=True)
    beside = WANTED / f"{folder.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, beside / name)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=beside, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.fail(f"`npm ci` in {HERE} failed:\n{done.stdout}{done.stderr}", pytrace=False)
    if not folder.exists():  # another process may have been quicker
        beside.rename(folder)
    return folder
